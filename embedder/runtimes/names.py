"""The names of devices, precisions and engines."""

from typing import Literal

UsableDevice = Literal["cpu", "cuda"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["f32", "bf16"]
AnyPrecision = Literal["auto", Precision]
RuntimeName = Literal["openvino", "torch_export"]
