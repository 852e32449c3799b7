"""Memory by hand on a model small enough to count, and against what torch, peft and transformers really hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, NemotronHConfig, Qwen3Config

from alloy.config import LoraConfig, OptimConfig
from alloy.plan.architectures import shape_of
from alloy.plan.head import head_bytes
from alloy.plan.launch import Launch
from alloy.plan.memory import memory_of
from alloy.plan.numerics import AUTOCAST, FLOAT32
from alloy.plan.shape import Shape
from alloy.plan.states import BUCKET, states_of
from alloy.plan.work import Held, Sampling, Scoring, Training, Work

TINY = {
    "model_type": "llama", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 6, "tie_word_embeddings": True,
}  # fmt: skip
SHAPE = shape_of(TINY, "x")
BLOCK = (16 + 8 + 8 + 16 + 4) + (72 + 4)
PARAMETERS = 40 + 2 * BLOCK + 4
TRAINING = Training(
    steps=10, rows=2, length=8, micro_batches=1, precision="float32", attention="documents",
    checkpointing=False, optimizer="adamw",
)  # fmt: skip
ONE = Launch()


def phases(work: Work, launch: Launch = ONE, shape: Shape = SHAPE) -> dict[str, dict[str, float]]:
    return {phase.name: phase.kinds for phase in memory_of(work, shape, launch).phases}


def test_the_states_of_one_device() -> None:
    states = states_of(SHAPE, TRAINING, ONE)
    assert SHAPE.parameters == PARAMETERS == 300
    assert (states.weights, states.gradients, states.optimizer) == (1200, 1200, 2400)
    assert (states.buckets, states.gathered, states.number) == (0, 0, 4)


def test_several_devices_keep_buckets_beside_their_gradients() -> None:
    states = states_of(SHAPE, TRAINING, Launch(devices=4))
    assert (states.weights, states.gradients, states.buckets) == (1200, 1200, 1200)


@pytest.mark.parametrize(
    ("sharding", "precision", "weights", "gradients", "optimizer"),
    [
        # Weights in bfloat16 with float32 ones beside the moments: 2 + 2 + 12 bytes a parameter (arXiv:1910.02054).
        ("zero3", "bfloat16", 600 / 4, 600 / 4, 3600 / 4),
        ("zero2", "bfloat16", 600, 600 / 4, 3600 / 4),
        # In float32 the third stage needs no second copy; the second makes one.
        ("zero3", "float32", 1200 / 4, 1200 / 4, 2400 / 4),
        ("zero2", "float32", 1200, 1200 / 4, 3600 / 4),
        # FSDP2 keeps float32 shards and computes in gathered bfloat16.
        ("fsdp", "bfloat16", 1200 / 4, 1200 / 4, 2400 / 4),
    ],
)
def test_what_is_divided_by_four(
    sharding: Any, precision: Any, weights: float, gradients: float, optimizer: float
) -> None:
    states = states_of(SHAPE, replace(TRAINING, precision=precision), Launch(devices=4, sharding=sharding))
    assert (states.weights, states.gradients, states.optimizer) == (weights, gradients, optimizer)


def test_gathered_weights_and_buckets() -> None:
    zero3 = states_of(SHAPE, TRAINING, Launch(devices=2, sharding="zero3"))
    assert (zero3.gathered, zero3.whole) == (1200, 1200)
    # A GPU's bucket is taken whole; of a CPU's there is what was written.
    assert (zero3.buckets, zero3.reducing) == (4 * BUCKET, 1200)
    on_cpu = states_of(SHAPE, TRAINING, Launch(devices=2, sharding="zero3", cpu=True))
    assert (on_cpu.buckets, on_cpu.reducing) == (1200, 2400)
    fsdp = states_of(SHAPE, TRAINING, Launch(devices=2, sharding="fsdp"))
    assert fsdp.gathered == 4 * (44 + 2 * BLOCK)  # embedding and last norm, two blocks
    large = shape_of({**TINY, "vocab_size": 200_000, "hidden_size": 4096, "num_attention_heads": 32}, "x")
    assert large.parameters > BUCKET
    assert states_of(large, TRAINING, Launch(devices=2, sharding="zero3")).gathered == 4 * 500_000_000


def test_offloaded_states_lie_in_the_machine() -> None:
    bfloat16 = replace(TRAINING, precision="bfloat16")
    some = states_of(SHAPE, bfloat16, Launch(devices=2, sharding="zero3", offload="optimizer"))
    assert (some.weights, some.gradients, some.optimizer) == (300, 0, 0)
    assert some.host == 3600 / 2 + 1200 / 2
    all_of_it = states_of(SHAPE, bfloat16, Launch(devices=2, sharding="zero3", offload="all"))
    assert (all_of_it.weights, all_of_it.host) == (0, some.host + 300)


def test_an_adapter() -> None:
    lora = replace(TRAINING, lora=LoraConfig(rank=3))
    trained = 2 * 3 * (8 + 6 + 6 + 8 + 10 + 10 + 10)
    states = states_of(SHAPE, lora, ONE)
    assert states.trained == trained == 348
    assert (states.weights, states.gradients, states.optimizer) == (1200 + 4 * 348, 4 * 348, 8 * 348)
    rest = states_of(SHAPE, replace(lora, precision="bfloat16", bfloat16_base=True), ONE)
    assert rest.weights == 600 + 4 * 348
    assert rest.number == 2


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("llama", None),
        ("llama", ["q_proj", "down_proj"]),
        ("nemotron_h", None),
        ("nemotron_h", ["in_proj", "o_proj", "up_proj", "fc1_latent_proj"]),
    ],
)
def test_adapter_parameters_are_those_of_peft(kind: str, names: list[str] | None) -> None:
    from peft import get_peft_model

    from alloy.adapter import lora_to_peft

    lora = LoraConfig(rank=3, target_modules=names or "all-linear")
    config: Any = LlamaConfig(**{k: v for k, v in TINY.items() if k != "model_type"})
    if kind == "nemotron_h":
        config = NemotronHConfig(
            vocab_size=50, hidden_size=16, hybrid_override_pattern="M*-E", num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, intermediate_size=24, ssm_state_size=4, mamba_num_heads=4,
            mamba_head_dim=4, n_groups=2, n_routed_experts=4, moe_intermediate_size=6, moe_latent_size=8,
            moe_shared_expert_intermediate_size=10,
        )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        adapted = get_peft_model(model, lora_to_peft(lora, model))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape_of(config.to_dict(), "x").adapter_parameters(lora) == trained


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_optimizer_states_are_those_of_the_optimizer(kind: Any) -> None:
    from alloy.optimizer import make_muon

    model = AutoModelForCausalLM.from_config(
        LlamaConfig(**{k: v for k, v in TINY.items() if k != "model_type"})
    )
    optimizer: Any = (
        make_muon(model, OptimConfig(kind="muon", learning_rate=1e-3))
        if kind == "muon"
        else torch.optim.AdamW(model.parameters())
    )
    model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    optimizer.step()
    held = sum(
        tensor.nbytes
        for state in optimizer.state.values()
        for tensor in state.values()
        if torch.is_tensor(tensor) and tensor.ndim > 0
    )
    assert states_of(SHAPE, replace(TRAINING, optimizer=kind), ONE).optimizer == held


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_cache_is_as_large_as_transformers_makes_it(kind: str) -> None:
    common = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 48}  # fmt: skip
    config: Any = LlamaConfig(**common) if kind == "llama" else Qwen3Config(**common, head_dim=16)
    model = AutoModelForCausalLM.from_config(config).eval()
    cache = DynamicCache(config=config)
    with torch.no_grad():
        model(input_ids=torch.zeros((5, 7), dtype=torch.long), past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 5 * shape_of(config.to_dict(), "x").cache_bytes(7, 4, 4) == held


def test_a_windowed_layer_keeps_its_window_and_mamba_a_state() -> None:
    windowed = shape_of({**TINY, "model_type": "mistral", "sliding_window": 16}, "x")
    assert windowed.cache_bytes(100, 4, 4) == windowed.cache_bytes(16, 4, 4) == 2 * 16 * (2 + 2) * 4
    hybrid = shape_of(
        {"model_type": "nemotron_h", "vocab_size": 10, "hidden_size": 8, "hybrid_override_pattern": "M",
         "num_attention_heads": 2, "mamba_num_heads": 4, "mamba_head_dim": 4, "n_groups": 2,
         "ssm_state_size": 3, "conv_kernel": 4},
        "x",
    )  # fmt: skip
    # The convolution's window over 16 + 2 x 2 x 3 channels, and 4 heads x 4 x 3 numbers; however long.
    assert hybrid.cache_bytes(1, 4, 4) == hybrid.cache_bytes(1000, 4, 4) == 4 * (28 * 4 + 48)


def test_an_update_moment_by_moment() -> None:
    """Two sequences of eight tokens: what each block keeps, then gradients instead of it."""
    found = phases(Work(training=TRAINING))
    norm = 4 * 4 * 3 + 4
    # Queries, keys and values of two heads each; results, and side by side; sums; gate, activation, up, product.
    kept = 16 * (norm + 4 * (4 * 3 + 4 + 4) + 4 * 2 + norm + 4 * 4 * 6)
    behind = 16 * (norm - 16 + 16)
    head = found["training: the head"]
    assert head["activations"] == 2 * kept + behind
    assert (head["weights"], head["optimizer"], head["gradients"]) == (1200, 2400, 4 * 40)
    back = found["training: the way back"]
    # The largest of its moments is the first: both blocks kept, the last block's gradients come.
    assert back["gradients"] == 4 * (40 + BLOCK)
    assert back["activations"] == 2 * kept + 16 * 6 * 4 * 4
    update = found["training: the update"]
    assert (update["gradients"], update.get("activations", 0)) == (1200, 0)


def test_gradients_that_accumulate_stay() -> None:
    found = phases(Work(training=replace(TRAINING, micro_batches=2)))
    assert found["training: the head"]["gradients"] == 1200 + 160


def test_checkpointing_keeps_inputs_and_one_block() -> None:
    plain, checkpointed = (phases(Work(training=replace(TRAINING, checkpointing=on))) for on in (False, True))
    inputs = 2 * 16 * 4 * 4
    head = checkpointed["training: the head"]["activations"]
    assert head == inputs + 16 * (4 * 4 * 3 + 4)
    kept = (plain["training: the head"]["activations"] - 16 * 52) / 2
    back = checkpointed["training: the way back"]
    # The largest moment is now the last: the first block computed again, and all gradients but the norm's.
    assert back["activations"] == inputs / 2 + kept + 16 * 6 * 4 * 4
    assert back["gradients"] == 4 * (40 + 2 * BLOCK)


def test_autocast_copies_the_matrices_and_halves_what_they_multiply() -> None:
    """The copies are there while the graph is: at the head all of them, checkpointed ones too."""
    found = phases(Work(training=replace(TRAINING, precision="bfloat16")))
    assert found["training: the head"]["weights"] == 1200 + 2 * 2 * (48 + 72)


def test_the_head_is_computed_in_tiles() -> None:
    large = replace(SHAPE, vocabulary=100_000)
    # A GPU works on one tile of 4,096 positions and 32,768 words, however many there are.
    assert head_bytes(large, 9000, FLOAT32, ONE, backward=True) == 4 * 4096 * 32768
    assert head_bytes(large, 10, AUTOCAST, ONE, backward=True) == 2 * 10 * 32768 + 2 * 32768 * 4
    # A CPU has eight tiles at once on the way back, in float32, and a byte for the word that is meant.
    cpu = Launch(cpu=True)
    assert head_bytes(SHAPE, 16, FLOAT32, cpu, backward=True) == 16 * 10 * 33
    assert head_bytes(SHAPE, 16, FLOAT32, cpu, backward=False) == 16 * 10 * 16
    assert head_bytes(SHAPE.as_scorer(), 16, FLOAT32, cpu, backward=True) == 64


def sampling(**given: Any) -> Sampling:
    return Sampling(
        **{
            "what": "rollouts", "completions": 6, "prompt": 5, "completion": 3, "rows": 2,
            "engine": "transformers", "memory_share": 0.25, "beside_training": True, **given,
        }
    )  # fmt: skip


def test_sampling_beside_a_trainer() -> None:
    work = Work(training=TRAINING, sampling=(sampling(),))
    found = phases(work)["sampling rollouts"]
    assert (found["weights"], found["optimizer"], found.get("gradients", 0)) == (1200, 2400, 0)
    # Two rows of eight tokens, two layers, keys and values of two numbers.
    assert found["cache"] == 2 * 8 * 2 * (2 + 2) * 4
    assert found["logits"] == 16 * 2 * 10
    kept = phases(Work(training=TRAINING, sampling=(sampling(multi_turn=True),)))["sampling rollouts"]
    assert kept["cache"] == 2 * found["cache"]
    sharded = phases(work, Launch(devices=2, sharding="zero3"))["sampling rollouts"]
    assert sharded["weights"] == 600 + 1200  # a model that samples is put together whole
    alone = phases(Work(sampling=(sampling(beside_training=False),)))["sampling rollouts"]
    assert (alone["weights"], "optimizer" in alone) == (1200, False)


def test_vllm_takes_its_share_all_the_time() -> None:
    launch = Launch(device_memory=100_000)
    found = phases(Work(training=TRAINING, sampling=(sampling(engine="vllm"),)), launch)
    assert {kinds["models"] for kinds in found.values()} == {25_000}
    # A share that does not hold weights and one sequence is too small to start with.
    small = phases(
        Work(sampling=(sampling(engine="vllm", beside_training=False),)), Launch(device_memory=100)
    )
    assert small["sampling rollouts"]["models"] == 600 + 8 * 2 * 4 * 2
    server = phases(Work(training=TRAINING, sampling=(sampling(engine="vllm-server"),)))
    assert "models" not in server["sampling rollouts"]


def test_second_models() -> None:
    scorer = replace(SHAPE, vocabulary=110).as_scorer()
    work = Work(
        training=TRAINING,
        scoring=(Scoring("by the reward model", "reward model", 100, 2, 10),),
        held=(
            Held("reference", "parent", sharded=True),
            Held("reward model", "reward_model"),
        ),
    )
    launch = Launch(devices=2, sharding="zero3")
    memory = memory_of(work, SHAPE, launch, {"reward model": scorer})
    found = {phase.name: phase.kinds for phase in memory.phases}
    assert scorer.parameters == 300 + 400 + 4
    reference, reward = 1200 / 2, 4 * 704
    assert found["training: the head"]["models"] == reference + reward
    bfloat16 = replace(work, training=replace(TRAINING, precision="bfloat16"))
    # DeepSpeed brings the reference to its own numbers; a reward model stays as it was loaded.
    halved = memory_of(bfloat16, SHAPE, launch, {"reward model": scorer}).phases[0].kinds["models"]
    assert halved == 600 / 2 + reward
    scored = found["scoring by the reward model"]
    assert (scored["models"], scored["logits"]) == (reference + reward, 4 * 20)


def test_a_sweep_holds_its_parents_in_the_machine() -> None:
    work = Work(sampling=(sampling(beside_training=False),), host_models=2)
    assert memory_of(work, SHAPE, ONE).host == 2 * 1200
    on_cpu = memory_of(work, SHAPE, Launch(cpu=True))
    assert (on_cpu.host, on_cpu.peak.kinds["models"]) == (0, 2 * 1200)


def test_the_peak_is_the_largest_moment_not_the_sum_of_kinds() -> None:
    memory = memory_of(Work(training=TRAINING), SHAPE, ONE)
    assert memory.peak.bytes == max(phase.bytes for phase in memory.phases)
    assert memory.peak.bytes == sum(memory.peak.kinds.values())
    assert memory.most("gradients") == 1200


def test_a_hybrid_keeps_documents_apart_and_its_reference_path_is_a_cpu_s(tmp_path: Path) -> None:
    hybrid = shape_of(
        {"model_type": "nemotron_h", "vocab_size": 10, "hidden_size": 8, "hybrid_override_pattern": "M*",
         "num_attention_heads": 2, "head_dim": 4, "mamba_num_heads": 4, "mamba_head_dim": 4, "n_groups": 2,
         "ssm_state_size": 3, "chunk_size": 4},
        "x",
    )  # fmt: skip
    on_gpu, on_cpu = (
        phases(Work(training=TRAINING), Launch(cpu=cpu), hybrid)["training: the head"]
        for cpu in (False, True)
    )
    assert on_cpu["activations"] > 1.5 * on_gpu["activations"]
    mixer, attention = (block[0] for block in hybrid.blocks)
    kept = mixer.kept(FLOAT32, "documents", 8) + attention.kept(FLOAT32, "documents", 8)
    assert on_gpu["activations"] == 16 * (kept + 4 * 8 * 3 + 4)
