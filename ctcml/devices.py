"""What the devices of this machine do well."""

import torch


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there; a processor without it imitates it at a tenth of the speed."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
