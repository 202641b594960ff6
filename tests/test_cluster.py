"""examples/cluster: the recipes for SLURM and Kubernetes start what two processes really run, from an object store."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
import yaml

from edgepress.multilabel.bundle import Bundle
from tests.launched import ENVIRONMENT, EPOCHS, RECIPE
from tests.multilabel.tars import shard
from tests.object_store import environment, free_port, serving

RECIPES = Path(__file__).parents[1] / "examples" / "cluster"
CLUSTER = RECIPES.parents[1] / "docs" / "cluster.md"
SLURM, KUBERNETES = RECIPES / "slurm.sbatch", RECIPES / "kubernetes.yaml"
JOB = "4242"
PROGRAMS = {
    # As many machines as there are, all of them this one.
    "srun": """for ((i = 0; i < SLURM_JOB_NUM_NODES; i++)); do "$@" & started+=($!); done
for one in "${started[@]}"; do wait "$one" || code=$?; done; exit "${code:-0}"
""",
    "scontrol": 'echo "$*" >> "$SAID"; [ "$1" != show ] || echo localhost\n',
    "torchrun": 'echo "$*" >> "$SAID.torchrun"; exec "$PYTHON" -m torch.distributed.run "$@"\n',
    "edgepress": 'exec "$PYTHON" -m edgepress "$@"\n',
}
COUNTING = '''"""In the processes of a launch: write down every picture that is read, as SPLIT ROW."""
import os
if "RANK" in os.environ:
    from edgepress.multilabel.datasets import MultiLabelDataset
    whole = MultiLabelDataset.stored
    def stored(self, row):
        with open(os.environ["READS"] + os.environ["RANK"], "a") as file:
            file.write(f"{self.split} {row}\\n")
        return whole(self, row)
    MultiLabelDataset.stored = stored
'''


@pytest.fixture
def machine(tmp_path) -> dict[str, str]:
    """The environment of a job of Slurm on two machines, which are this one."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}")
        (programs / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": JOB, "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "this,this", "PER_NODE": "1"}
    paths = {"PATH": f"{programs}:{os.environ['PATH']}", "SAID": str(tmp_path / "said"), "PYTHON": sys.executable}
    return {**os.environ, **ENVIRONMENT, **slurm, **paths, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def words(machine: dict[str, str]) -> list[str]:
    """What the last machine gave to torchrun."""
    return Path(f"{machine['SAID']}.torchrun").read_text().splitlines()[-1].split()


def epochs_of(reads: Path) -> list[Counter[str]]:
    """The training pictures that a process read between its passes over val."""
    runs = groupby(reads.read_text().splitlines(), key=lambda line: line.split()[0])
    return [Counter(lines) for split, lines in ((split, list(lines)) for split, lines in runs) if split == "train"]


def test_two_machines_learn_from_a_store_that_is_killed_once_what_two_processes_learn_from_a_folder(
    machine, tiny_data, distilled_in_two, tmp_path
):
    for package in ("moto", "s3fs"):
        pytest.importorskip(package, reason=f"{package} is not installed; it is the store, or reads from it")
    shards, log, port = shard(tiny_data, tmp_path / "shards", shard_bytes=40_000), tmp_path / "log", free_port()
    tars = sorted(path.name for split in ("train", "val") for path in shards.glob(f"{split}-*.tar"))
    assert 4 <= len(tars) <= 8
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "counting").mkdir()
    (tmp_path / "counting" / "sitecustomize.py").write_text(COUNTING)
    given = {
        "DATA": "s3://pictures/some/shards",
        "TEACHER": str(distilled_in_two.answers),
        "RECIPE": str(tmp_path / "recipe.yaml"),
        "OUT": str(tmp_path / "student"),
        "PORT": str(free_port()),
        "READS": str(tmp_path / "reads"),
        "PYTHONPATH": str(tmp_path / "counting"),
    }
    job = None
    try:
        with serving(port, shards, "pictures/some/shards", log, tars[2]) as store:
            job = subprocess.Popen(
                ["bash", str(SLURM)],
                env={**machine, **environment(port), **given},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            assert store.wait(timeout=300) == -signal.SIGKILL
        with serving(port, shards, "pictures/some/shards", log):
            said, _ = job.communicate(timeout=600)
    finally:
        if job is not None and job.poll() is None:
            os.killpg(job.pid, signal.SIGTERM)
    assert job.returncode == 0, said[-4000:]
    mine, theirs = (Bundle.open(path) for path in (tmp_path / "student", distilled_in_two.student))
    assert mine.manifest.inputs == theirs.manifest.inputs
    names = [path.name for path in theirs.path.iterdir() if path.suffix == ".safetensors"]
    assert names
    assert all((mine.path / name).read_bytes() == (theirs.path / name).read_bytes() for name in names)
    # Each picture once an epoch, by one of the two.
    both = [epochs_of(tmp_path / f"reads{rank}") for rank in (0, 1)]
    assert [len(epochs) for epochs in both] == [EPOCHS, EPOCHS]
    for one, other in zip(*both, strict=True):
        assert one + other == Counter(f"train {row}" for row in range(24))
        assert len(one) == len(other) == 12
    # Nothing elsewhere, and each shard once but the one in whose middle the store was killed.
    asked = [line.split("?")[0] for line in log.read_text().splitlines() if "list-type" not in line]
    assert {path.rpartition("/")[0] for path in asked} == {"/pictures/some/shards"}
    counts = Counter(path.rpartition("/")[2] for path in asked)
    assert [counts[name] for name in tars] == [2 if name == tars[2] else 1 for name in tars], counts
    assert words(machine) == torchrun_of_kubernetes(given | {"PER_NODE": "1"})


def torchrun_of_kubernetes(given: dict[str, str]) -> list[str]:
    """The command of the Kubernetes recipe with its variables replaced, at Slurm's place to meet."""
    _, job = yaml.safe_load_all(KUBERNETES.read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one["value"] for one in container["env"]} | given
    command = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in container["command"]]
    assert command.pop(0) == "torchrun"
    waits = command.index("--rdzv-conf")
    assert re.fullmatch(r"join_timeout=\d{4,}", command[waits + 1])
    del command[waits : waits + 2]
    command[command.index("--rdzv-endpoint") + 1] = f"localhost:{given['PORT']}"
    command[command.index("--rdzv-id") + 1] = JOB
    return command


def test_the_pods_of_kubernetes_find_each_other_and_keep_what_must_outlive_them():
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    assert (service["kind"], service["spec"]["clusterIP"], job["kind"]) == ("Service", "None", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,), (copying, _) = pod["containers"], pod["initContainers"]
    head, port = container["command"][container["command"].index("--rdzv-endpoint") + 1].split(":")
    assert head == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert int(port) == service["spec"]["ports"][0]["port"]
    values = {one["name"]: one["value"] for one in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(values["NODES"])
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert pod["restartPolicy"] == "Never"  # a failure policy wants it
    limit, others = spec["backoffLimit"], spec["completions"] - 1
    assert limit // others >= 50  # preemptions; each costs the ends of the others
    assert f"takes at least N-1 of the {limit} of `backoffLimit`" in CLUSTER.read_text()
    for one in (container, copying):
        assert one["env"] == container["env"]
        places = {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "emptyDir" in volumes[places[values["XDG_CACHE_HOME"]]]
        for name in ("TEACHER", "RECIPE", "OUT", "HF_HOME"):
            assert "persistentVolumeClaim" in volumes[places[str(Path(values[name]).parent)]]
        used = {found for word in one["command"] for found in re.findall(r"\$\((\w+)\)", word)}
        assert used <= values.keys()
    slurm = next(line for line in SLURM.read_text().splitlines() if line.startswith("srun edgepress"))
    assert [word.strip('"') for word in slurm.split()[1:-1]] == [
        re.sub(r"\$\((\w+)\)", r"$\1", word) for word in copying["command"]
    ]


def test_a_pod_waits_until_the_first_pod_answers():
    """torchrun by itself gave up after 156 seconds, and the first pod may copy for longer than that."""
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    _, waiting = job["spec"]["template"]["spec"]["initContainers"]
    *shell, script = waiting["command"]
    assert shell == ["bash", "-c"]
    place = f"{job['metadata']['name']}-0.{service['metadata']['name']}/{service['spec']['ports'][0]['port']}"
    assert script.count(place) == 1
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        here = script.replace(place, f"127.0.0.1/{head.getsockname()[1]}").replace("sleep 1", "sleep 0.1")
        first = subprocess.run([*shell, here], env={**os.environ, "JOB_COMPLETION_INDEX": "0"}, timeout=30, check=False)
        assert first.returncode == 0
        second = subprocess.Popen([*shell, here], env={**os.environ, "JOB_COMPLETION_INDEX": "1"})
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=0.3)
            head.listen()
            assert second.wait(timeout=30) == 0
        finally:
            second.kill()


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({"SLURM_CPUS_PER_TASK": "16"}, "/home/me/.cache/huggingface"),
        ({"XDG_CACHE_HOME": "/scratch"}, "/scratch/huggingface"),
        ({"XDG_CACHE_HOME": "/scratch", "HF_HOME": "/weights"}, "/weights"),
    ],
)
def test_slurm_s_steps_have_the_job_s_processors_and_the_weights_that_were_fetched(machine, tmp_path, given, weights):
    """From Slurm 22.05 on srun reads the number of processors from a variable of its own."""
    seen = 'echo "${SRUN_CPUS_PER_TASK-none} $HF_HOME $XDG_CACHE_HOME"\n'
    (tmp_path / "programs" / "srun").write_text(f"#!/bin/bash\n{seen}")
    ours = ("SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK", "XDG_CACHE_HOME", "HF_HOME")
    environ = {name: value for name, value in machine.items() if name not in ours}
    environ |= {"HOME": "/home/me", "TMPDIR": "/local", "DATA": "s3://a/b", "TEACHER": "t", "RECIPE": "r", "OUT": "o"}
    job = subprocess.run(["bash", str(SLURM)], env=environ | given, capture_output=True, text=True, check=True)
    cpus, cache = given.get("SLURM_CPUS_PER_TASK", "none"), given.get("XDG_CACHE_HOME", "/local")
    assert job.stdout.splitlines() == [f"{cpus} {weights} {cache}"] * 2


def test_slurm_s_job_goes_back_into_the_queue_before_its_time_is_over(machine, tmp_path):
    """Two minutes before the end Slurm sends USR1 to the script, which asks for another turn of the same job."""
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", SLURM.read_text(), re.MULTILINE))
    assert "requeue" in options
    assert options["signal"] == "B:USR1@120"
    assert options["open-mode"] == "append"
    programs = tmp_path / "programs"
    (programs / "srun").write_text("#!/bin/bash\necho started\nexec sleep 60\n")
    job = subprocess.Popen(
        ["bash", str(SLURM)], env={**machine, "DATA": "s3://a/b"}, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == b"started\n"
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=30) != 0
    finally:
        os.killpg(job.pid, signal.SIGKILL)
    assert Path(machine["SAID"]).read_text().splitlines() == ["show hostnames this,this", f"requeue {JOB}"]
