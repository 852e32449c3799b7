"""Every file in configs/accelerate is read by accelerate's own classes, and its plugins take what it says."""

import os
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin, prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from alloy.plan.launch import Launch, read_accelerate

FILES = sorted(Path("configs/accelerate").glob("*.yaml"))
PLANNED = {
    "ddp": Launch(8),
    "zero2": Launch(8, sharding="zero2"),
    "zero3": Launch(8, sharding="zero3"),
    "zero3-offload": Launch(8, sharding="zero3", offload="all"),
    "fsdp2": Launch(8, sharding="fsdp"),
    "cpu-ddp": Launch(2, cpu=True),
    "cpu-zero2": Launch(2, sharding="zero2", cpu=True),
    "cpu-zero3": Launch(2, sharding="zero3", cpu=True),
    "zero3-sp": Launch(8, sharding="zero3", parts=2),
    "cpu-zero3-sp": Launch(2, sharding="zero3", parts=2, cpu=True),
}


def environment(path: Path, *flags: str) -> dict[str, str]:
    """What `accelerate launch` tells the processes that it starts."""
    given = launch_command_parser().parse_args(["--config_file", str(path), *flags, "-m", "sft"])
    args, config, _ = _validate_launch_command(given)
    assert config is not None
    # Set by accelerate's command itself, behind what is called here.
    args.deepspeed_fields_from_accelerate_config = ""
    if args.use_deepspeed:
        _, found = prepare_deepspeed_cmd_env(args)
    else:
        found = prepare_multi_gpu_env(args)
    return {name: value for name, value in found.items() if value is not None}


def test_the_plan_reads_all_of_them() -> None:
    assert {path.stem: Launch(**read_accelerate(path)) for path in FILES} == PLANNED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_all_of_them(path: Path) -> None:
    config = ClusterConfig.from_yaml_file(str(path))
    assert config.num_processes == PLANNED[path.stem].devices
    # Precision is the stage's.
    assert environment(path)["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3-offload"])
def test_deepspeed_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import DeepSpeedPlugin

    for key, value in environment(Path(f"configs/accelerate/{name}.yaml")).items():
        monkeypatch.setenv(key, value)
    plugin = DeepSpeedPlugin()
    told = plugin.deepspeed_config["zero_optimization"]
    assert told["stage"] == (2 if name == "zero2" else 3)
    assert told["stage3_gather_16bit_weights_on_model_save"] is (name != "zero2")
    assert plugin.zero3_init_flag is (name != "zero2")
    where = "cpu" if name == "zero3-offload" else "none"
    assert told["offload_optimizer"]["device"] == told["offload_param"]["device"] == where


def test_fsdp_is_its_second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment(Path("configs/accelerate/fsdp2.yaml")).items():
        monkeypatch.setenv(key, value)
    plugin: Any = FullyShardedDataParallelPlugin()
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


def test_machines_are_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one node says nothing against two of them; DeepSpeed needs no ssh between them."""
    flags = ["--num_machines", "2", "--machine_rank", "1", "--num_processes", "16", "--main_process_ip", "10.0.0.1",
             "--main_process_port", "29500"]  # fmt: skip
    for path in FILES:
        given = launch_command_parser().parse_args(["--config_file", str(path), *flags, "-m", "sft"])
        args, _, _ = _validate_launch_command(given)
        assert (args.num_machines, args.machine_rank, args.num_processes) == (2, 1, 16), path
        if args.use_deepspeed:
            args.deepspeed_fields_from_accelerate_config = ""
            command, _ = prepare_deepspeed_cmd_env(args)
            assert args.deepspeed_multinode_launcher == "standard", path
            assert not any("hostfile" in str(word) for word in command or []), path
