"""A device's state, from what tools printed on real Jetsons (recorded by others: see recorded/README.md) and from files
made here in the form of /sys and /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.deploy.machine.state import disturbances, read_state, state_cautions
from edgepress.deploy.machine.tegra import parse_nvpmodel, parse_tegrastats, total_power
from tests.deploy.machine.boards import BOARDS, board_tree
from tests.deploy.machine.jetson import clocks_tree, put, recorded


class TestTegrastats:
    def test_jetpack_5_recorded(self):
        found = parse_tegrastats(recorded("jetpack5-tegrastats.txt"))
        assert found.ram_mb == (1282, 62795)
        assert found.cpus == [(0, 729)] * 12
        assert (found.gpu_load, found.gpu_mhz) == (0, 0)
        assert found.temperatures["tj"] == 42.593
        assert "gpu" not in found.temperatures  # it was off: -256C
        rails = {"VDD_GPU_SOC": 2399, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 4032, "VDDQ_VDD2_1V8AO": 301}
        assert found.rails_mw == rails
        assert total_power(found.rails_mw) == (7132, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO")

    def test_jetpack_6_recorded(self):
        first, second = map(parse_tegrastats, recorded("jetpack6-tegrastats.txt").splitlines())
        assert first.ram_mb == (3572, 7620)
        assert first.cpus == [(52, 1984), (24, 1984), (62, 1984), (26, 1984), (2, 729), (34, 729)]
        assert (first.gpu_load, first.gpu_mhz) == (60, None)
        assert first.temperatures["gpu"] == first.temperatures["tj"] == 54.875
        assert first.rails_mw == {"VDD_IN": 13195, "VDD_CPU_GPU_CV": 6976, "VDD_SOC": 2037}
        assert total_power(first.rails_mw) == (13195, "VDD_IN")
        assert second.rails_mw["VDD_IN"] == 12233  # of that moment, not the average 12714

    def test_jetpack_7_recorded(self):
        first, second = map(parse_tegrastats, recorded("jetpack7-tegrastats.txt").splitlines())
        assert first.ram_mb == (46946, 125772)
        assert (len(first.cpus), first.cpus[11]) == (14, (80, 2106))
        assert (first.gpu_load, first.gpu_mhz) == (None, None)  # Thor prints no GR3D_FREQ
        assert first.temperatures["soc012"] == 36.5
        assert list(first.rails_mw) == ["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"]
        assert total_power(second.rails_mw) == (21590, "VIN")

    def test_jetpack_7_2_recorded(self):
        first, second = map(parse_tegrastats, recorded("jetpack7.2-tegrastats.txt").splitlines())
        assert total_power(first.rails_mw) == (87426, "VIN")  # three numbers a rail
        assert first.temperatures["gpu"] == 62.906
        assert second.temperatures["gpu"] == 41.843  # 41.843C/41.843C
        assert total_power(second.rails_mw) == (1975 + 5530, "VDD_GPU + VDD_CPU_SOC_MSS")

    def test_a_core_that_is_off_and_units_of_older_releases(self):
        found = parse_tegrastats("RAM 10/20MB (lfb 1x1MB) IRAM 0/252kB CPU [3%@345,off] GR3D_FREQ 76%@[713] VDD_IN 5/7")
        assert found.cpus == [(3, 345), None]
        assert (found.gpu_load, found.gpu_mhz) == (76, 713)
        assert found.rails_mw == {"VDD_IN": 5}

    @pytest.mark.parametrize("line", ["", "tegrastats: command not found"])
    def test_another_line_gives_nothing(self, line):
        found = parse_tegrastats(line)
        assert (found.ram_mb, found.cpus, found.temperatures, found.rails_mw) == (None, [], {}, {})
        assert total_power(found.rails_mw) is None


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        ("jetpack5-jetson-clocks.txt", "MAXN"),  # its last line; see recorded/README.md
        ("jetpack6-nvpmodel.txt", "MAXN_SUPER"),  # complaints of cores that it does not have come with it
        ("jetpack7-nvpmodel.txt", "MAXN"),
        ("orin-jetson-clocks-locked.txt", "MODE_30W"),
    ],
)
def test_the_power_mode_recorded(file, mode):
    assert parse_nvpmodel(recorded(file)) == mode


def test_no_power_mode_is_none():
    assert parse_nvpmodel("NVPM ERROR: Failed to open /etc/nvpmodel.conf") is None


class TestClocks:
    @pytest.mark.parametrize(
        ("file", "clocks", "gpu"),
        [
            ("jetpack5-jetson-clocks.txt", "unlocked", [306, 1300.5]),
            ("orin-jetson-clocks-unlocked.txt", "unlocked", [306, 612]),
            ("orin-jetson-clocks-locked.txt", "locked", [612, 612]),
        ],
    )
    def test_recorded(self, tmp_path, file, clocks, gpu):
        state = read_state(clocks_tree(tmp_path, recorded(file)), "")
        assert state.clocks == clocks
        assert state.clock_ranges["17000000.gpu"] == gpu
        assert state.governors == ["schedutil"]
        assert not any("vic" in name for name in state.clock_ranges)

    def test_cores_that_are_off_do_not_count(self, tmp_path):
        state = read_state(clocks_tree(tmp_path, recorded("orin-jetson-clocks-locked.txt")), "")
        assert sorted(state.clock_ranges) == ["17000000.gpu", *(f"cpu{number}" for number in range(8))]

    def test_one_core_that_moves_is_enough(self, tmp_path):
        root = clocks_tree(tmp_path, recorded("orin-jetson-clocks-locked.txt"))
        put(root, {"sys/devices/system/cpu/cpu5/cpufreq/scaling_min_freq": 729600})
        state = read_state(root, "")
        assert state.clocks == "unlocked"
        assert state_cautions(state, state) == ["clocks: unlocked (cpu5 729.6 to 1728 MHz)"]

    def test_a_jetson_is_told_the_command(self, tmp_path):
        root = clocks_tree(tmp_path, recorded("jetpack5-jetson-clocks.txt"))
        put(
            root,
            {"etc/nv_tegra_release": "# R35 (release), REVISION: 3.1, GCID: 32827747, BOARD: t186ref, EABI: aarch64"},
        )
        state = read_state(root, "")
        assert state.l4t == "R35 (release), REVISION: 3.1"
        (line,) = state_cautions(state, state)
        assert line.startswith("clocks: unlocked (cpu0 729.6 to 2201.6 MHz, cpu1 ")
        assert line.endswith(" and 11 more); `sudo jetson_clocks` locks them")

    def test_none_shown_is_unknown(self, tmp_path):
        state = read_state(tmp_path, "")
        assert state.clocks == "unknown"
        assert len(state_cautions(state, state)) == 1
        assert (state.model, state.power_mode, state.driver, state.temperatures) == (None, None, None, {})


def quiet(tmp_path: Path) -> Path:
    """A device with locked clocks that nothing disturbs."""
    put(
        tmp_path,
        {
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": 2000000,
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": 2000000,
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 45000,
            "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
            "sys/class/thermal/thermal_zone1/temp": -256000,
            "sys/class/thermal/cooling_device0/type": "pwm-fan",
            "sys/class/thermal/cooling_device0/cur_state": 3,
            "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0",
            "sys/class/thermal/cooling_device1/cur_state": 0,
            "sys/class/hwmon/hwmon3/name": "soctherm_oc",
            "sys/class/hwmon/hwmon3/oc3_event_cnt": 10,
            "proc/loadavg": "0.00 0.10 0.20 1/200 4711",
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release",
            "proc/device-tree/model": "A board\x00",
        },
    )
    return tmp_path


def test_nothing_is_said_of_a_quiet_device(tmp_path):
    state = read_state(quiet(tmp_path), "NV Power Mode: 15W\n0\n")
    assert state_cautions(state, state) == []
    assert (state.model, state.driver, state.power_mode) == ("A board", "540.4.0", "15W")
    assert state.temperatures == {"cpu-thermal": 45}
    assert state.throttle_events == {"oc3": 10}
    assert state.load == 0.0


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"sys/class/hwmon/hwmon3/oc3_event_cnt": 12}, "throttled while measured: oc3 rose by 2"),
        ({"sys/class/thermal/cooling_device1/cur_state": 1}, "throttling: cpufreq-cpu0"),
        ({"sys/class/thermal/thermal_zone0/temp": 61000}, "cpu-thermal went from 45 to 61 °C while measured"),
        *(
            ({f"sys/devices/platform/{place}/get_throttled": "50005"}, "throttling: get_throttled 50005")
            for place in ("soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware", "firmware", "soc:firmware")
        ),
        (
            {"sys/class/hwmon/hwmon1/name": "rpi_volt", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": 1},
            "throttling: under-voltage (rpi_volt)",
        ),
    ],
)
def test_what_disturbed_the_measurement_is_said(tmp_path, changed, line):
    before = read_state(quiet(tmp_path), "")
    put(tmp_path, changed)
    assert state_cautions(before, read_state(tmp_path, "")) == [line]


@pytest.mark.parametrize("text", ["0", "50000", "", "error", "-1"])
def test_a_raspberry_pi_that_is_not_throttled_now_says_nothing(tmp_path, text):
    put(
        quiet(tmp_path),
        {
            "sys/devices/platform/soc/soc:firmware/get_throttled": text,
            "sys/class/hwmon/hwmon1/name": "rpi_volt",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": 0,
        },
    )
    state = read_state(tmp_path, "")
    assert state.throttling == []


@pytest.mark.parametrize(
    ("board", "ranges"),
    [
        ("pi4", {f"cpu{core}": [600, 1500] for core in range(4)}),
        ("pi5", {f"cpu{core}": [1000, 2400] for core in range(4)}),
        ("rock5b", {f"cpu{core}": [408, 1800 if core < 4 else 2400] for core in range(8)}),
    ],
)
def test_the_clocks_of_a_board(tmp_path, board, ranges):
    state = read_state(board_tree(tmp_path, board), "")
    assert (state.model, state.clock_ranges, state.clocks) == (BOARDS[board].model, ranges, "unlocked")
    assert state.governors == ["ondemand"]


def test_an_intel_processor_counts_its_throttling(tmp_path):
    name = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    put(quiet(tmp_path), {name: 5})
    before = read_state(tmp_path, "")
    put(tmp_path, {name: 6})
    assert state_cautions(before, read_state(tmp_path, "")) == [
        "throttled while measured: package_throttle_count rose by 1"
    ]


def ticks(user: int, idle: int, stolen: int = 0) -> str:
    """The first line of /proc/stat, in hundredths of a second: guests' time is a part of the user's."""
    return f"cpu  {user} 0 0 {idle} 0 0 0 {stolen} {user} 0\ncpu0 1 0 0 1 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("after", "own", "told"),
    [
        (ticks(10_100, 10_100), 1.0, None),  # it was this process itself
        (ticks(10_100, 10_100), 0.5, "25%"),
        (ticks(10_015, 10_185), 0.0, None),
        (ticks(10_100, 10_100, 100), 1.0, "33%"),  # the hypervisor gave its share of the core to others
        (ticks(10_010, 10_000), 0.0, None),  # too short a time to tell
        ("intr 12", 0.0, None),
    ],
)
def test_other_processes_are_said_and_this_one_is_not(tmp_path, after, own, told):
    put(quiet(tmp_path), {"proc/stat": ticks(10_000, 10_000)})
    before = replace(read_state(tmp_path, ""), own_seconds=7.0)
    put(tmp_path, {"proc/stat": after})
    found = state_cautions(before, replace(read_state(tmp_path, ""), own_seconds=7.0 + own))
    said = f"busy: other processes used {told} of the machine's processor time while measured"
    assert found == ([] if told is None else [said])


def test_work_of_another_process_is_seen_here():
    def spin(seconds: float) -> str:
        return f"import time\nend = time.time() + {seconds}\nwhile time.time() < end: pass"

    before = read_state()
    if before.cpu_seconds is None:
        pytest.skip("this system has no /proc/stat")
    working = [subprocess.Popen([sys.executable, "-c", spin(2)]) for _ in range(os.cpu_count() or 1)]
    for one in working:
        assert one.wait() == 0
    assert any(line.startswith("busy: ") for line in disturbances(before, read_state()))


def test_this_machine_can_be_read():
    state = read_state()
    assert state.clocks in ("locked", "unlocked", "unknown")
    assert all(low <= high for low, high in state.clock_ranges.values())
