"""Which of timm's architectures work, are refused in a sentence, or break.

Each is made without weights, takes one training step as a run takes it, and is exported, proved in
both engines. It does so in a process of its own, since one that breaks may take its process along.

    python benchmarks/architectures.py [NAME...] [--seconds 600]

Names one line each, and ends with one line of JSON. ``BROKEN`` has to stay empty.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

# One or two of each family, the small ones, with the side of the pictures in pixels: a small one
# that is not that of the pretraining, where the architecture takes it.
ARCHITECTURES: Mapping[str, int] = {
    "aimv2_large_patch14_224": 56,
    "bat_resnext26ts": 128,
    "beit_base_patch16_224": 96,
    "botnet26t_256": 128,
    "caformer_s18": 96,
    "cait_xxs24_224": 96,
    "coat_lite_tiny": 96,
    "coat_tiny": 96,
    "coatnet_pico_rw_224": 128,
    "convit_tiny": 96,
    "convmixer_768_32": 64,
    "convnext_atto": 96,
    "convnextv2_atto": 96,
    "cpubone_nano": 96,
    "crossvit_9_240": 240,
    "cs3darknet_focus_s": 96,
    "csatv2": 128,
    "cspnext_tiny": 96,
    "cspresnet50": 96,
    "davit_tiny": 96,
    "deit3_small_patch16_224": 96,
    "deit_tiny_distilled_patch16_224": 96,
    "densenet121": 96,
    "dla34": 96,
    "dm_nfnet_f0": 96,
    "dpn48b": 96,
    "eca_halonext26ts": 128,
    "edgenext_xx_small": 96,
    "efficientformer_l1": 224,
    "efficientformerv2_s0": 96,
    "efficientvim_m1": 96,
    "efficientvit_b0": 96,
    "efficientvit_m0": 96,
    "ese_vovnet19b_slim_dw": 96,
    "eva02_tiny_patch14_224": 84,
    "fasternet_t0": 96,
    "fastvit_t8": 96,
    "flexivit_small": 96,
    "focalnet_tiny_srf": 96,
    "gcvit_xxtiny": 224,
    "gernet_s": 96,
    "ghostnet_050": 96,
    "ghostnetv3_050": 96,
    "gmlp_ti16_224": 96,
    "halonet26t": 128,
    "hardcorenas_a": 96,
    "hgnetv2_b0": 96,
    "hiera_tiny_224": 224,
    "hrnet_w18_small": 96,
    "iformer_t": 96,
    "inception_next_atto": 96,
    "inception_resnet_v2": 128,
    "inception_v3": 128,
    "inception_v4": 128,
    "lambda_resnet26t": 96,
    "lcnetv2_small": 96,
    "legacy_seresnet18": 96,
    "legacy_xception": 96,
    "levit_128s": 96,
    "levit_conv_128s": 224,
    "lowformer_b0": 96,
    "mambaout_femto": 96,
    "maxvit_pico_rw_256": 128,
    "maxxvit_rmlp_nano_rw_256": 128,
    "mixer_s32_224": 96,
    "mixnet_s": 96,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "mobileone_s0": 64,
    "mobilevit_xxs": 96,
    "mobilevitv2_050": 96,
    "mvitv2_small_cls": 96,
    "mvitv2_tiny": 96,
    "naflexvit_base_patch16_gap": 96,
    "nest_tiny": 128,
    "nextvit_small": 96,
    "nf_resnet26": 96,
    "pit_ti_224": 96,
    "pit_ti_distilled_224": 224,
    "poolformer_s12": 96,
    "pvt_v2_b0": 96,
    "qwen3_vit_88m": 96,
    "rdnet_tiny": 96,
    "regnetx_002": 64,
    "regnety_002": 64,
    "repghostnet_050": 64,
    "repvgg_a0": 64,
    "repvit_m0_9": 64,
    "res2net50_14w_8s": 64,
    "resmlp_12_224": 96,
    "resnest14d": 64,
    "resnet18": 64,
    "resnet50_clip": 96,
    "resnetv2_18": 64,
    "rexnet_100": 64,
    "sam2_hiera_tiny": 96,
    "samvit_base_patch16_224": 96,
    "selecsls42": 96,
    "sequencer2d_s": 96,
    "shvit_s1": 96,
    "skresnet18": 64,
    "starnet_s050": 64,
    "swiftformer_xs": 96,
    "swin_s3_tiny_224": 96,
    "swin_tiny_patch4_window7_224": 96,
    "swinv2_cr_tiny_224": 96,
    "swinv2_tiny_window8_256": 96,
    "tiny_vit_5m_224": 96,
    "tinynet_e": 64,
    "tnt_s_patch16_224": 96,
    "tresnet_m": 96,
    "twins_pcpvt_small": 96,
    "twins_svt_small": 96,
    "vgg11": 64,
    "vgg11_bn": 64,
    "visformer_tiny": 96,
    "vit_pe_core_tiny_patch16_384": 96,
    "vit_relpos_small_patch16_224": 96,
    "vit_small_patch14_reg4_dinov2": 84,
    "vit_small_patch16_dinov3": 96,
    "vit_tiny_patch16_224": 96,
    "vit_tiny_r_s16_p8_224": 96,
    "vitamin_small_224": 96,
    "volo_d1_224": 96,
    "xception41": 96,
    "xcit_nano_12_p8_224": 96,
    # Sides that the architecture does not take.
    "vit_small_patch16_224": 100,
    "vit_small_patch14_dinov2": 224 + 1,
    "sequencer2d_m": 100,
}

Outcome = Literal["works", "refused", "BROKEN"]


@dataclass(frozen=True)
class Tried:
    """What became of an architecture: the outcome, why, and after how many seconds."""

    outcome: Outcome
    reason: str
    seconds: float


def main() -> None:
    """Try each architecture, tell, and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=600, help="longest time of each")
    asked = parser.parse_args()
    print(json.dumps(try_all(asked.names or tuple(ARCHITECTURES), asked.seconds)))


def try_all(names: Sequence[str], seconds: float) -> dict[str, Any]:
    """Try architectures one after another; return the counts, and those that are refused."""
    import timm  # noqa: F401 (loaded once, for all processes)
    import torch

    import trainer.training.state  # noqa: F401

    torch.set_num_threads(1)  # no thread is there when a process is forked
    tried = {}
    for name in names:
        tried[name] = one = _try_aside(name, ARCHITECTURES[name], seconds)
        print(f"{name:34} {one.outcome:8} {one.seconds:5.1f} s  {one.reason}", flush=True)
    count = {kind: [n for n, t in tried.items() if t.outcome == kind] for kind in _KINDS}
    return {
        "architectures_ok": len(count["works"]),
        "architectures_refused": len(count["refused"]),
        "architectures_broken": len(count["BROKEN"]),
        "refused": {name: tried[name].reason for name in count["refused"]},
        "broken": {name: tried[name].reason for name in count["BROKEN"]},
    }


_KINDS: tuple[Outcome, ...] = ("works", "refused", "BROKEN")


def _try_aside(name: str, side: int, seconds: float) -> Tried:
    """Try an architecture in a forked process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(theirs, name, side))
    started = time.monotonic()
    process.start()
    theirs.close()
    try:
        answered = ours.poll(seconds)
        outcome, reason = (
            ours.recv() if answered else ("BROKEN", f"still at work after {seconds} s")
        )
    except EOFError:
        process.join()
        outcome, reason = "BROKEN", f"the process ended with code {process.exitcode}"
    process.kill()
    process.join()
    return Tried(outcome, reason, time.monotonic() - started)


def _tell(connection: Connection, name: str, side: int) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # what libraries say when they break
    connection.send(_try(name, side))


def _try(name: str, side: int) -> tuple[Outcome, str]:
    """Make an architecture, take one step, and export it."""
    from embedder.errors import RecipeError
    from trainer.model.network import EmbeddingNetwork
    from trainer.recipe import Recipe, validated

    recipe = validated(Recipe, _recipe(name, side), name)
    try:
        network = EmbeddingNetwork(recipe.network, sides=recipe.sides)
    except RecipeError as error:
        return "refused", error.faults[0].message
    doing = "training step"
    try:
        _take_step(network, recipe)
        doing = "export"
        with tempfile.TemporaryDirectory() as folder:
            _export(network, recipe, Path(folder) / "embedder")
    except Exception as error:
        return "BROKEN", f"{doing}: {type(error).__name__}: {str(error)[:160]!r}"
    return "works", ""


def _recipe(name: str, side: int) -> dict[str, Any]:
    stage = {"side": side, "epochs": 1, "batch_size": 4, "lr": 1e-4, "head_lr": 1e-3}
    return {
        "name": name,
        "precision": "f32",
        "network": {
            "backbone": name,
            "pretrained": "none",
            "pooling": {"kind": "gem"},
            "neck": {"dimension": 16},
        },
        "head": {"kind": "subcenter_arcface", "margin": {"kind": "dynamic"}},
        "stages": [{**stage, "schedule": {"kind": "constant"}}],
        "embed": {"side": side},
    }


def _take_step(network: Any, recipe: Any) -> None:  # noqa: ANN401 (their modules load torch)
    import numpy as np
    import torch

    from trainer.heads import make_head
    from trainer.model.strided_convolutions import use_cpu_gradients
    from trainer.training.state import TrainingState

    torch.manual_seed(0)
    use_cpu_gradients(network)
    head = make_head(recipe.head, network.dimension, np.array([2, 2]))
    network.to(memory_format=torch.channels_last)
    state = TrainingState(network, head, recipe, landmarks=["a", "b"], precision="f32")
    state.freeze_backbone(frozen=False)
    state.set_learning_rates(backbone=1e-4, head=1e-3)
    side = recipe.embed.side
    pictures = torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8)
    loss = state.step(pictures, [torch.tensor([0, 1, 0, 1])], 1, 0)
    if not torch.isfinite(loss):
        raise ArithmeticError(f"the loss is {loss}")


def _export(network: Any, recipe: Any, out: Path) -> None:  # noqa: ANN401 (their modules load torch)
    import numpy as np

    from trainer.export.artifact import Description
    from trainer.export.network import FinishedNetwork, publish_network
    from trainer.model.inference_module import InferenceModule

    side = recipe.embed.side
    network.fix_input_side(side)
    module = InferenceModule(network).eval()
    crops = np.empty((0, 3, side, side), np.float16)
    publish_network(
        out, Description(recipe.name, {}), FinishedNetwork(module, recipe.embed, crops, {})
    )


if __name__ == "__main__":
    main()
