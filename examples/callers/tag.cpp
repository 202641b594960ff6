// Tags JPEGs in C++ with OpenVINO and libjpeg, on a model of `edgepress export BUNDLE --layout model-api`.
//
//   OV=$(python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')   # the wheel has the headers
//   g++ -std=c++17 -O2 tag.cpp -o tag -I$OV/include -L$OV/libs -l:$(basename $OV/libs/libopenvino.so.*) \
//       -ljpeg -Wl,-rpath,$OV/libs          # Debian: apt-get install g++ libjpeg-dev
//   ./tag model.xml PICTURE.jpg...
//
// Prints a line of JSON per picture: a score per label, at least 0 where the bundle answers yes, and the labels that are
// answered yes. It has the resizes `squash` and `letterbox` (docs/bundle.md of edgepress) with `bilinear-aa`, and with
// `area-cubic` for pictures that shrink along both sides, which is the usual case on a camera; it refuses others by name.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <openvino/openvino.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <jpeglib.h>  // needs the headers above

struct Picture {
    int height, width;
    std::vector<uint8_t> pixels;  // rows of red, green, blue
};

// The EXIF orientation in a JPEG's APP1 segment; 1 where it has none.
int orientation(const jpeg_decompress_struct& jpeg) {
    for (auto marker = jpeg.marker_list; marker; marker = marker->next) {
        const uint8_t* d = marker->data;
        if (marker->marker != JPEG_APP0 + 1 || marker->data_length < 20 || std::string(d, d + 4) != "Exif") continue;
        const uint8_t *tiff = d + 6, *end = d + marker->data_length;
        const bool little = tiff[0] == 'I';
        auto u16 = [&](const uint8_t* p) { return little ? p[0] | p[1] << 8 : p[0] << 8 | p[1]; };
        auto u32 = [&](const uint8_t* p) { return little ? u16(p) | u16(p + 2) << 16 : u16(p) << 16 | u16(p + 2); };
        const uint8_t* entry = tiff + u32(tiff + 4);
        if (entry < tiff || entry + 2 > end) return 1;
        for (int left = u16(entry), first = 1; left > 0; --left, first = 0) {
            entry += first ? 2 : 12;
            if (entry + 12 > end) return 1;
            if (u16(entry) == 0x112) return u16(entry + 8);
        }
    }
    return 1;
}

Picture decode(const std::string& name) {
    FILE* file = std::fopen(name.c_str(), "rb");
    if (!file) throw std::runtime_error(name + ": cannot be read");
    jpeg_decompress_struct jpeg;
    jpeg_error_mgr error;
    jpeg.err = jpeg_std_error(&error);
    error.error_exit = [](j_common_ptr info) {
        char text[JMSG_LENGTH_MAX];
        info->err->format_message(info, text);
        throw std::runtime_error(text);
    };
    jpeg_create_decompress(&jpeg);
    jpeg_stdio_src(&jpeg, file);
    jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&jpeg, TRUE);
    const int turn = orientation(jpeg);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    const int height = jpeg.output_height, width = jpeg.output_width;
    std::vector<uint8_t> stored(size_t(height) * width * 3);
    while (jpeg.output_scanline < jpeg.output_height) {
        uint8_t* row = stored.data() + size_t(jpeg.output_scanline) * width * 3;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    std::fclose(file);
    const bool sideways = turn >= 5, mirrored = turn == 2 || turn == 3 || turn == 7 || turn == 8;
    const bool flipped = turn == 3 || turn == 4 || turn == 6 || turn == 7;
    Picture upright{sideways ? width : height, sideways ? height : width, std::vector<uint8_t>(stored.size())};
    for (int y = 0; y < upright.height; ++y)
        for (int x = 0; x < upright.width; ++x) {
            int row = sideways ? x : y, column = sideways ? y : x;
            if (flipped) row = height - 1 - row;
            if (mirrored) column = width - 1 - column;
            std::copy_n(&stored[(size_t(row) * width + column) * 3], 3, &upright.pixels[(size_t(y) * upright.width + x) * 3]);
        }
    return upright;
}

// Scales rows [from] to [to], each of `length` values, by the mean of what each covers.
std::vector<double> shrink(const std::vector<double>& rows, int from, int to, int length) {
    std::vector<double> result(size_t(to) * length);
    const double scale = double(from) / to;
    for (int t = 0; t < to; ++t) {
        const double start = t * scale, end = std::min((t + 1) * scale, double(from));
        double total = 0;
        for (int at = int(start); at < from && at < end; ++at) {
            const double covered = std::min(at + 1.0, end) - std::max(double(at), start);
            if (covered < 1e-3) continue;
            total += covered;
            for (int i = 0; i < length; ++i) result[size_t(t) * length + i] += covered * rows[size_t(at) * length + i];
        }
        for (int i = 0; i < length; ++i) result[size_t(t) * length + i] /= total;
    }
    return result;
}

// Scales rows [from] to [to], each of `length` values, by a triangle as wide as what becomes one row, and rounds to bytes.
std::vector<double> filtered(const std::vector<double>& rows, int from, int to, int length) {
    if (from == to) return rows;
    std::vector<double> result(size_t(to) * length, 0.5);
    const double scale = double(from) / to, wide = std::max(scale, 1.0), unit = 1 << 22;
    for (int t = 0; t < to; ++t) {
        const double centre = (t + 0.5) * scale;
        const int first = std::max(int(centre - wide + 0.5), 0), last = std::min(int(centre + wide + 0.5), from);
        std::vector<double> weights;
        double total = 0;
        for (int at = first; at < last; ++at) {
            weights.push_back(std::max(0.0, 1 - std::abs((at - centre + 0.5) / wide)));
            total += weights.back();
        }
        for (int at = first; at < last; ++at) {
            const double weight = std::floor(weights[at - first] / total * unit + 0.5) / unit;
            for (int i = 0; i < length; ++i) result[size_t(t) * length + i] += weight * rows[size_t(at) * length + i];
        }
    }
    for (double& value : result) value = std::floor(value);
    return result;
}

std::vector<double> transposed(const std::vector<double>& pixels, int height, int width) {
    std::vector<double> result(pixels.size());
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            std::copy_n(&pixels[(size_t(y) * width + x) * 3], 3, &result[(size_t(x) * height + y) * 3]);
    return result;
}

std::vector<double> stretch(const Picture& picture, int height, int width, const std::string& interpolation) {
    std::vector<double> values(picture.pixels.begin(), picture.pixels.end());
    if (interpolation == "bilinear-aa") {  // along the rows first
        values = filtered(transposed(values, picture.height, picture.width), picture.width, width, picture.height * 3);
        return filtered(transposed(values, width, picture.height), picture.height, height, width * 3);
    }
    if (interpolation != "area-cubic")
        throw std::runtime_error("interpolation " + interpolation + ": this program has area-cubic, bilinear-aa");
    if (picture.height < height || picture.width < width)
        throw std::runtime_error("smaller than the model's input, and this program has no cubic interpolation");
    values = transposed(shrink(values, picture.height, height, picture.width * 3), height, picture.width);
    values = transposed(shrink(values, picture.width, width, height * 3), width, height);
    const bool halved = picture.height == 2 * height && picture.width == 2 * width;
    for (double& value : values)
        value = halved ? std::floor(value + 0.5) : std::nearbyint(std::round(value * 1e4) / 1e4);
    return values;
}

void prepare(const Picture& picture, int size, const std::string& resize, const std::string& interpolation, uint8_t* out) {
    int height = size, width = size;
    if (resize == "letterbox") {
        const double scale = double(size) / std::max(picture.height, picture.width);
        height = std::max(1.0, std::nearbyint(picture.height * scale));
        width = std::max(1.0, std::nearbyint(picture.width * scale));
    } else if (resize != "squash") {
        throw std::runtime_error("resize " + resize + ": this program has squash, letterbox");
    }
    const std::vector<double> values = stretch(picture, height, width, interpolation);
    const int top = (size - height) / 2, left = (size - width) / 2;
    std::fill_n(out, size_t(size) * size * 3, 0);
    for (int y = 0; y < height; ++y)
        std::copy_n(&values[size_t(y) * width * 3], width * 3, out + (size_t(y + top) * size + left) * 3);
}

int main(int count, char** arguments) try {
    if (count < 3) throw std::runtime_error("expected tag MODEL.xml PICTURE.jpg...");
    ov::Core core;
    auto model = core.read_model(arguments[1]);
    auto told = [&](const char* key) { return model->get_rt_info<std::string>("model_info", key); };
    const int size = std::stoi(told("edgepress_size"));
    const std::string resize = told("edgepress_resize"), interpolation = told("edgepress_interpolation");
    std::istringstream words(told("labels"));
    const std::vector<std::string> labels{std::istream_iterator<std::string>(words), {}};
    auto request = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32)).create_infer_request();
    for (int i = 2; i < count; ++i) {
        ov::Tensor pixels(ov::element::u8, {1, size_t(size), size_t(size), 3});
        prepare(decode(arguments[i]), size, resize, interpolation, pixels.data<uint8_t>());
        request.set_input_tensor(pixels);
        request.infer();
        const float* scores = request.get_output_tensor().data<float>();
        std::ostringstream all, tags;
        all.precision(9);
        for (size_t label = 0; label < labels.size(); ++label) {
            all << (label ? ", " : "") << scores[label];
            if (scores[label] >= 0) tags << (tags.tellp() ? ", " : "") << '"' << labels[label] << '"';
        }
        std::cout << "{\"file\": \"" << arguments[i] << "\", \"scores\": [" << all.str() << "], \"tags\": [" << tags.str() << "]}\n";
    }
} catch (const std::exception& error) {
    std::cerr << "tag: " << error.what() << "\n";
    return 2;
}
