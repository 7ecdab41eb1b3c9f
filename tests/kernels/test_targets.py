"""The vector code as other processors and systems get it: made here, run there."""

from __future__ import annotations

import re

import pytest
from llvmlite import binding, ir
from numba import types
from numba.core.registry import cpu_target

from numbaglm.kernels import _llvm

# Triple, processor, (BYTES, ROWS), what multiplies, and what may not be in it.
X86 = {
    "sse2": ("x86-64", (32, 4), r"\bmulps\b.*xmm", r"[yz]mm"),
    "avx": ("sandybridge", (32, 4), r"\bvmulps\b.*ymm", r"zmm|vfm"),
    "avx2": ("haswell", (32, 4), r"\bvfmadd\w*ps\b.*ymm", r"zmm"),
    "avx512": ("skylake-avx512", (64, 8), r"\bvfmadd\w*ps\b.*zmm", "(?!)"),
}
ARM = {
    "neon": ("generic", (16, 8), r"\bfmla\b", r"\bfmul\b"),
    "m1": ("apple-m1", (16, 8), r"\bfmla\b", r"\bfmul\b"),
}
BEGINNING = {
    "linux": b"\x7fELF",
    "macosx": b"\xcf\xfa\xed\xfe",
    "windows-x86_64": b"\x64\x86",
    "windows-aarch64": b"\x64\xaa",
}
TRIPLES = [
    *[(f"x86_64-{system}", name, *X86[name]) for system in ("unknown-linux-gnu", "pc-windows-msvc") for name in X86],
    *[("x86_64-apple-macosx11", name, *X86[name]) for name in ("sse2", "avx2")],
    ("aarch64-unknown-linux-gnu", "neon", *ARM["neon"]),
    ("arm64-apple-macosx11", "m1", *ARM["m1"]),
    ("aarch64-pc-windows-msvc", "neon", *ARM["neon"]),
]


def code(intrinsic, kinds, triple, cpu):
    """Assembly and object of an intrinsic's code in a function of its own."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple(triple)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite makes no code for {triple}: {error}")
    context, module = cpu_target.target_context, ir.Module()
    signature, generate = intrinsic._defn(None, *kinds)
    result, *arguments = (context.get_value_type(kind) for kind in (signature.return_type, *kinds))
    function = ir.Function(module, ir.FunctionType(result, arguments), "code")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(generate(context, builder, signature, function.args))
    machine = target.create_target_machine(cpu=cpu, opt=3)
    module.triple, module.data_layout = triple, str(machine.target_data)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed), machine.emit_object(parsed)


@pytest.mark.parametrize(
    ("triple", "cpu", "layout", "multiplied", "never"),
    [pytest.param(triple, *rest, id=f"{triple}-{name}") for triple, name, *rest in TRIPLES],
)
@pytest.mark.parametrize("item", [types.float32, types.float64], ids=str)
def test_code_is_made_for_every_processor_and_system(triple, cpu, layout, multiplied, never, item, monkeypatch):
    monkeypatch.setattr(_llvm, "BYTES", layout[0])
    monkeypatch.setattr(_llvm, "ROWS", layout[1])
    matrix, row, counts = types.Array(item, 2, "C"), types.Array(item, 1, "C"), types.Array(types.int32, 1, "C")
    calls = {
        "multiply": [matrix, matrix, matrix, types.boolean],
        "reduce": [matrix, types.boolean, row, row, counts, matrix],
    }
    for name, kinds in calls.items():
        assembly, made = code(getattr(_llvm, name), kinds, triple, cpu)
        system = next(system for system in ("linux", "macosx", "windows") if system in triple)
        kind = system if system in BEGINNING else f"{system}-{triple.partition('-')[0]}"
        assert made.startswith(BEGINNING[kind])
        assert not re.search(r"^\s(call\w*|bl)\s", assembly, re.MULTILINE), "no library is called"
        if name == "multiply":
            instruction = multiplied if item is types.float32 else multiplied.replace("ps", "pd")
            assert re.search(instruction, assembly)
            assert not re.search(never, assembly)
