"""Label files of tools and data sets that are not read: the message names them and what to convert them to."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import list_splits
from edgepress.multilabel.errors import InputError
from tests.multilabel.layouts import picture, write

VIA = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
FILES = [
    ("annotation/annotation.mat", "MATLAB 5.0", "is MATLAB's, which is not read; load it (scipy.io.loadmat)"),
    ("LandUse_Multilabeled.xlsx", "PK", "is a spreadsheet, which is not read; save it as CSV"),
    ("labels.pkl", "x", "is a Python pickle, which is never opened"),
    ("datum-0.arrow", "ARROW1", "is an Arrow file, which is not read"),
    ("train.tfrecord", "x", "is TensorFlow's, which is not read"),
    ("scans/p0.dcm", "DICM", "is DICOM, which is not read; convert the pictures to PNG"),
    ("meta.json", '{"classes": [], "tags": []}', "is Supervisely's, whose annotations are not read"),
    ("via.json", '{"a.jpg1": {"regions": [{"shape_attributes": {}, "region_attributes": {}}]}}', "is VIA's; export"),
    ("via_region_data.csv", f"{VIA}\na.jpg,1,{{}},1,0,{{}},{{}}", "is VIA's table of regions; export"),
    ("wider.json", '{"attribute_id_map": {}, "scene_id_map": {}, "images": []}', "is WIDER Attribute's"),
    ("train.json", '{"metainfo": {"classes": ["a"]}, "data_list": []}', "is OpenMMLab's list"),
    ("samples.json", '{"samples": [{"ground_truth": {"_cls": "Classifications"}}]}', "is FiftyOne's own dataset"),
    ("metadata/2018.json", '{"id": "1", "tags": [{"name": "sky"}], "file_ext": "jpg"}', "is Danbooru's metadata"),
    ("export.ndjson", '{"data_row": {}, "projects": {}}', "is Labelbox's export"),
    ("labels.json", json.dumps([{"file": "a.jpg", "labels": ["cat"]}]), "is a list of objects with file, labels;"),
    ("labels.json", json.dumps({"a.jpg": ["cat"]}), "is an object with a key for each picture;"),
    ("train.csv", "Image_Label,Pixels\na.jpg_Fish,1 2", "'Image_Label' joins a picture and a label ('a.jpg_Fish')"),
    ("train.csv", "ID,Label\na_any,0", "column 'ID' joins a picture and a label ('a_any'); write one row a picture"),
    ("train.csv", "Id,Target\nb,16 0", "'Id' is 'b', the beginning of 2 pictures (b_green.png, b_red.png)"),
    ("import.csv", "s/a.jpg,cat,dog\ns/b_red.png,cat,", "import.csv has no header; write the columns' names"),
    ("Labels/airplane.csv", "image,sea,sand\na.jpg,0,1", "airplane.csv is a table in a folder; move it"),
    ("Anno/list_attr_img.txt", "1\nimage_name attribute_labels\nimg/a.jpg -1 1 -1", "lists pictures in text"),
    ("annotations/baby.txt", "1\n3", "annotations/ holds texts (baby.txt), which are not read"),
    ("photos/a.txt", "1girl, solo", "photos/a.txt is beside a picture, and texts of tags or boxes"),
    ("photos/a.json", '{"version": "2.0", "item": {"name": "a.jpg", "slots": []}}', "photos/a.json is V7 Darwin's"),
    ("captions.json", '{"images": [{"filename": "a.jpg", "sentences": []}]}', "holds captions (Karpathy's splits of"),
    ("train.jsonl", '{"image": "a.jpg", "tags": ["cat"]}', "train.jsonl is not read under this name; name it metadata"),
    ("photos/a.json", '{"tags": ["cat"]}', "photos/a.json is beside a picture, and is the JSON of no tool that"),
    ("photos/a.jpg.json", '{"rating": "s"}', "photos/a.jpg.json is beside a picture, and is the JSON of no tool that"),
    ("photos/a.jpg.json", '{"instances": [{"className": "cat"}]}', "is SuperAnnotate's, which is not read; export"),
    ("v.json", '{"assets": {"x": {"regions": [{"tags": ["cat"]}]}}}', "is VoTT's JSON, which is not read; export the"),
    ("multilabel_train_list.txt", "a.jpg\t0,1,0", "train_list.txt lists pictures in text, which is not read"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "said"), FILES, ids=[f"{number}-{file[0]}" for number, file in enumerate(FILES)]
)
def test_a_file_that_is_not_read_is_named_with_what_to_do(tmp_path, name, text, said):
    for shade, one in enumerate(("a.jpg", "b_red.png", "b_green.png")):
        picture(tmp_path / "photos" / one, shade)
    write(tmp_path / name, *text.split("\n"))
    with pytest.raises(InputError) as caught:
        list_splits(tmp_path)
    assert "\n" not in str(caught.value)
    assert name.split("/")[0] in str(caught.value)
    assert said in str(caught.value)


def test_texts_in_a_folder_without_pictures_are_named(tmp_path):
    picture(tmp_path / "mirflickr" / "im1.jpg")
    for name in ("baby", "sky"):
        write(tmp_path / "annotations_v080" / f"{name}.txt", "1", "3")
    with pytest.raises(InputError, match=r"annotations_v080/ holds texts \(baby.txt, sky.txt\), which are not read"):
        list_splits(tmp_path)
