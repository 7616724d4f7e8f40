"""Names of devices and dtypes, and what a machine is good at."""

from __future__ import annotations

import pytest
import torch

from likewise.devices import device_beside, dtype_of, find_device


def test_devices_have_names() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(None).type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["cudda", "cuda:99", "meta", "", "cpu:x"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device"):
        find_device(name)


@pytest.mark.parametrize("name", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_auto_is_bfloat16_where_a_cpu_has_instructions_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hasattr(torch.cpu, name)  # not public: it may go one day
    for one in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, one, lambda: False)
    assert dtype_of("auto", "cpu") == torch.float32
    monkeypatch.setattr(torch.cpu, name, lambda: True)
    assert dtype_of("auto", "cpu") == torch.bfloat16
    assert dtype_of("float16", "cpu") == torch.float16


@pytest.mark.parametrize("supported", [True, False])
def test_auto_on_a_gpu(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def emulated(including_emulation: bool) -> bool:
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulated)
    assert dtype_of("auto", "cuda:1") == (torch.bfloat16 if supported else torch.float32)


def test_a_device_beside_is_counted_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert device_beside(own, "cuda:+4") == torch.device("cuda:5")
    assert device_beside(own, "cuda:7") == torch.device("cuda:7")
    assert device_beside(own, "cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"no cuda:8: this machine has 8 GPUs, counted from 0"):
        device_beside(own, "cuda:+7")
    with pytest.raises(ValueError, match="counts from the GPU of a process, which is on the cpu"):
        device_beside(torch.device("cpu"), "cuda:+1")
