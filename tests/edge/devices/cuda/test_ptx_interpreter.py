"""The interpreter that runs the kernels' PTX: what it computes, and that it finds each fault."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.devices.cuda.driver import open_driver
from edge.errors import DeviceError
from tests.support.cuda.gpu import Plug
from tests.support.cuda.ptx.machine import LANES, KernelFault, Launch, Machine
from tests.support.cuda.ptx.memory import UNWRITTEN, WRITTEN, Memory
from tests.support.cuda.ptx.operations import OPERATIONS
from tests.support.cuda.ptx.parser import PtxError, parse
from tests.support.cuda.ptx.program import Program

BASE, SIZE = 0x10000, 1 << 14
IN, OUT, NEW = BASE + 1024, BASE + 4096, BASE + 8192  # buffers of 512 bytes; NEW: not written yet
THREADS = 64

KERNEL = """.version 8.2
.target sm_87
.visible .entry kernel(
	.param .u64 kernel_param_0,
	.param .u64 kernel_param_1
)
{{
	.reg .pred 	%p<9>;
	.reg .b16 	%rs<9>;
	.reg .f32 	%f<9>;
	.reg .b32 	%r<9>;
	.reg .b64 	%rd<19>;
	.shared .align 4 .b8 first[256];
	.shared .align 4 .b8 second[256];

	ld.param.u64 	%rd1, [kernel_param_0];
	ld.param.u64 	%rd2, [kernel_param_1];
	mov.u32 	%r1, %tid.x;
	mov.u32 	%r2, %ctaid.x;
	mul.wide.u32 	%rd3, %r1, 4;
	add.s64 	%rd4, %rd1, %rd3;
	add.s64 	%rd5, %rd2, %rd3;
	mov.u64 	%rd6, first;
	add.s64 	%rd7, %rd6, %rd3;
	cvt.rn.f32.u32 	%f1, %r1;
{body}
}}
"""


class Bench:
    """512 bytes each at IN (all ones), OUT (zeros) and NEW, far apart."""

    def __init__(self) -> None:
        self.data, states = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        for address, state in ((IN, WRITTEN), (OUT, WRITTEN), (NEW, UNWRITTEN)):
            states[address - BASE : address - BASE + 512] = state
        self.data[IN - BASE : IN - BASE + 512] = 1
        self._machine = Machine(Memory(BASE, self.data, states))

    def run(self, body: str, blocks: int = 1, source: int = IN, out: int = OUT) -> None:
        """The body's kernel: %r1 is a thread's number, %r2 its block's, %f1 the thread's number;
        %rd4, %rd5 its words of `source` and `out`, %rd7 that of the shared variable `first`."""
        program = Program(parse(KERNEL.format(body=body)).kernels["kernel"])
        parameters = struct.pack("PP", source, out)
        self._machine.run(Launch(program, (blocks, 1), (THREADS, 1), parameters))

    def read(self, dtype: type, address: int = OUT) -> NDArray:
        return self.data[address - BASE : address - BASE + 256].view(dtype)


def test_threads_that_part_meet_again() -> None:
    """Each goes round as often as its number says, odd ones end early."""
    bench = Bench()
    bench.run("""
	mov.u32 %r3, 0;
	mov.u32 %r4, 0;
$again:
	setp.ge.u32 %p1, %r3, %r1;
	@%p1 bra $done;
	add.s32 %r4, %r4, %r3;
	add.s32 %r3, %r3, 1;
	bra.uni $again;
$done:
	and.b32 %r5, %r1, 1;
	setp.eq.s32 %p2, %r5, 0;
	@!%p2 bra $end;
	st.global.u32 [%rd5], %r4;
$end:
	ret;""")
    expected = [n * (n - 1) // 2 if n % 2 == 0 else 0 for n in range(THREADS)]
    assert bench.read(np.uint32).tolist() == expected


EXCHANGE = """
	st.shared.f32 [%rd7], %f1;
	{barrier}
	xor.b32 %r3, %r1, 1;
	mul.wide.u32 %rd8, %r3, 4;
	add.s64 %rd9, %rd6, %rd8;
	ld.shared.f32 %f2, [%rd9];
	st.global.f32 [%rd5], %f2;
	ret;"""


def test_a_barrier_lets_threads_exchange_values() -> None:
    bench = Bench()
    bench.run(EXCHANGE.format(barrier="bar.sync 0;"))
    assert bench.read(np.float32).tolist() == [n ^ 1 for n in range(THREADS)]


BETWEEN_BLOCKS = """
	mul.wide.u32 %rd8, %r2, {apart};
	add.s64 %rd9, %rd5, %rd8;
	st.global.u32 [%rd9], %r1;
	ret;"""
LEAVES_BARRIER = """
	setp.lt.u32 %p1, %r1, 16;
	@%p1 bra $end;
	bar.sync 0;
$end:
	ret;"""
TWO_BARRIERS = """
	setp.lt.u32 %p1, %r1, 16;
	@%p1 bra $other;
	bar.sync 0;
	bra $end;
$other:
	bar.sync 0;
$end:
	ret;"""
FAULTS = {
    "read without a barrier": (
        EXCHANGE.format(barrier=""),
        "writes, another thread, without a bar",
    ),
    "write without a barrier": (
        "st.shared.f32 [%rd7], %f1; bar.sync 0; ld.shared.f32 %f2, [first]; "
        "st.shared.f32 [%rd7], %f2; ret;",
        "reads, another thread, without a barrier between",
    ),
    "two threads write": ("st.shared.f32 [first], %f1; ret;", "writes, another thread, without"),
    "nothing has written shared memory": (
        "ld.shared.f32 %f2, [%rd7]; st.global.f32 [%rd5], %f2; ret;",
        "reads 4 bytes that nothing has written; line 26: ld.shared.f32",
    ),
    "beyond a shared variable": ("st.shared.f32 [%rd7+256], %f1; ret;", "0 bytes beyond a buffer"),
    "far beyond shared memory": (
        "st.shared.f32 [%rd7+65536], %f1; ret;",
        "leaves the block's shared memory",
    ),
    "reads beyond a buffer": (
        "ld.global.f32 %f2, [%rd4+260]; st.global.f32 [%rd5], %f2; ret;",
        "thread (63, 0): reads 4 bytes, 0 bytes beyond a buffer; line 26: ld.global.f32",
    ),
    "writes beyond a buffer": ("st.global.f32 [%rd5+512], %f1; ret;", "writes 4 bytes, 0 bytes be"),
    "writes before a buffer": (
        "st.global.f32 [%rd5+-256], %f1; ret;",
        "writes 4 bytes, 2304 bytes",
    ),
    "an address that is none": ("st.global.f32 [%rd3], %f1; ret;", "that the GPU does not have"),
    "misaligned word": ("ld.global.f32 %f2, [%rd4+2]; ret;", "no multiple of 4"),
    "misaligned vector": (
        "ld.global.v4.f32 {%f2, %f3, %f4, %f5}, [%rd1+4]; ret;",
        "no multiple of 16",
    ),
    "misaligned bytes": (
        "ld.global.v4.u8 {%rs1, %rs2, %rs3, %rs4}, [%rd1+2]; ret;",
        "no multiple of 4",
    ),
    "some threads pass by a barrier": (LEAVES_BARRIER, "48 of 64 threads reach this barrier"),
    "threads wait at two barriers": (TWO_BARRIERS, "of 64 threads reach this barrier"),
    "a register that is not set": ("st.global.f32 [%rd5], %f8; ret;", "it reads %f8, which noth"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    body, says = FAULTS[fault]
    with pytest.raises(KernelFault) as caught:
        Bench().run(body.replace("; ", ";\n"))
    assert says in str(caught.value)
    assert "kernel kernel, block (0, 0), thread (" in str(caught.value)


def test_new_memory_has_to_be_written_before_it_is_read() -> None:
    bench = Bench()
    with pytest.raises(KernelFault, match="reads 4 bytes that nothing has written"):
        bench.run("ld.global.f32 %f2, [%rd4];\nret;", source=NEW)
    bench.run("st.global.f32 [%rd5], %f1;\nld.global.f32 %f2, [%rd5];\nret;", out=NEW)
    assert bench.read(np.float32, NEW).tolist() == list(range(THREADS))


@pytest.mark.parametrize("apart", [0, 4, 252])
def test_blocks_that_write_the_same_word_are_found(apart: int) -> None:
    with pytest.raises(KernelFault, match="writes, another block"):
        Bench().run(BETWEEN_BLOCKS.format(apart=apart), blocks=2)


def test_blocks_that_are_run_one_after_another_are_found_too() -> None:
    one_thread_writes_word = """
	setp.ne.u32 %p1, %r1, 0;
	@%p1 bra $end;
	and.b32 %r3, %r2, 127;
	mul.wide.u32 %rd8, %r3, 4;
	add.s64 %rd9, %rd2, %rd8;
	st.global.u32 [%rd9], %r2;
$end:
	ret;"""
    blocks = LANES // THREADS
    assert blocks == 128
    Bench().run(one_thread_writes_word, blocks)
    with pytest.raises(KernelFault, match=r"block \(128, 0\), .* writes, another block"):
        Bench().run(one_thread_writes_word, blocks + 1)


def test_a_block_that_reads_what_another_writes_is_found() -> None:
    """Whichever of them comes first."""
    first_writes = """
	setp.ne.s32 %p1, %r2, {writer};
	@%p1 bra $read;
	st.global.f32 [%rd4], %f1;
	ret;
$read:
	ld.global.f32 %f2, [%rd4];
	ret;"""
    for writer in (0, 1):
        with pytest.raises(KernelFault, match=r"a race: it touches what \w+, another block"):
            Bench().run(first_writes.format(writer=writer), blocks=2)


def test_what_is_no_race_is_none() -> None:
    bench = Bench()
    bench.run(BETWEEN_BLOCKS.format(apart=256), blocks=2)  # each block its own words
    for _ in range(2):  # launches follow each other
        bench.run("st.global.u32 [%rd5], %r1;\nret;")
    # each block its own bytes of the same words
    bench.run(
        """
	mul.wide.u32 %rd8, %r2, 1;
	add.s64 %rd9, %rd5, %rd8;
	st.global.u8 [%rd9], %r2;
	ret;""",
        blocks=4,
    )
    assert bench.read(np.uint8).tolist() == [0, 1, 2, 3] * THREADS
    bench.run("ld.global.f32 %f2, [%rd1];\nret;", blocks=4)  # all read one word


@pytest.mark.parametrize(
    "line",
    [
        "ex2.approx.f32 %f2, %f1;",
        "add.rz.f32 %f2, %f1, %f1;",
        "@%p1 st.global.f32 [%rd5], %f1;",
        "atom.global.add.u32 %r3, [%rd5], 1;",
        "bar.sync 1;",
        "bra $nowhere;",
        "ld.local.f32 %f2, [%rd5];",
        "add.f32 %f2, %f1;",
        ".local .align 4 .b8 depot[16];",
    ],
)
def test_what_is_not_known_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(PtxError, match=r"line 26 is not known: ") as caught:
        Bench().run(f"{line}\nret;")
    assert line in str(caught.value)


NAN = np.float32("nan")
RESULTS = [
    ("div.s32", (-7, 2), -3),
    ("rem.s32", (-7, 2), -1),
    ("mul.hi.s32", (-(1 << 31), 2), -1),
    ("mul.hi.u32", (1 << 31, 6), 3),
    ("mul.hi.u16", (58255, 36), 32),
    ("mul.wide.s32", (-3, 1 << 30), -3 << 30),
    ("mul.wide.u32", (1 << 31, 4), 1 << 33),
    ("mad.lo.s32", (1 << 30, 4, 5), 5),
    ("shl.b32", (3, 31), 1 << 31),
    ("shl.b32", (3, 32), 0),
    ("shr.s32", (-8, 1), -4),
    ("shr.s32", (-8, 40), -1),
    ("shr.u32", (1 << 31, 31), 1),
    ("shr.u32", (1 << 31, 32), 0),
    ("bfe.u32", (0xAB12CD, 8, 8), 0x12),
    ("bfe.u32", (0xAB12CD34, 0, 32), 0xAB12CD34),
    ("setp.lt.u32", (1, 0xFFFFFFFF), True),
    ("setp.lt.s32", (1, -1), False),
    ("selp.f32", (1.5, 2.5, False), 2.5),
    ("min.f32", (NAN, 3), 3),
    ("max.f32", (3, NAN), 3),
    ("fma.rn.f32", (1 + 2**-12, 1 + 2**-12, -(1 + 2**-11)), 2**-24),  # rounded once
    ("cvt.rni.f32.f32", (2.5,), 2),
    ("cvt.rzi.s32.f32", (-2.9,), -2),
    ("cvt.rzi.s32.f32", (1e20,), (1 << 31) - 1),
    ("cvt.rzi.u32.f32", (-5.0,), 0),
    ("cvt.rzi.u32.f32", (NAN,), 0),
    ("cvt.rn.f32.s32", ((1 << 24) + 1,), 1 << 24),
    ("cvt.s64.s32", (-1,), -1),
    ("cvt.u32.u64", ((1 << 40) + 5,), 5),
    ("cvt.u16.u32", (65541,), 5),
    ("rsqrt.approx.f32", (4,), 0.5),
    ("rcp.rn.f32", (3,), np.float32(1 / 3)),
]


@pytest.mark.parametrize(("opcode", "operands", "expected"), RESULTS)
def test_an_instruction_computes_what_the_manual_says(
    opcode: str, operands: tuple[float, ...], expected: float
) -> None:
    operation = OPERATIONS[opcode]
    values = [np.array([v]).astype(t) for v, t in zip(operands, operation.operands, strict=True)]
    result = operation.compute(*values)
    assert result.dtype == operation.result
    assert result[0] == expected


def test_kernels_with_an_unknown_instruction_are_not_loaded(
    plug: Plug, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gpu = plug(kernels="compute_87", cache=tmp_path)
    compile_ptx = gpu.compile_ptx
    monkeypatch.setattr(
        gpu, "compile_ptx", lambda file: compile_ptx(file).replace(b"\tret;", b"\ttrap;")
    )
    with pytest.raises(DeviceError, match=r"driver cannot load preprocess\.cu"), open_driver():
        pass
    assert re.search(r"PTX: line \d+ is not known: trap;", capfd.readouterr().err)
