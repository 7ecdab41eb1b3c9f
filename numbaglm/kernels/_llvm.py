"""The vector code of `vectors`, as LLVM gets it: what runs here runs in the compiler.

No line of it runs where numba's compiler is switched off, so that it is left out where lines are counted (coverage):
tests hold what it makes to the plain forms.
"""

# LLVM's builders have no types.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# What numba compiles for, in the words that its cache goes by: not always the processor that is there, for
# NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say another.
_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()

BYTES = 64 if "+avx512f" in _FEATURES.split(",") else 32 if _TRIPLE.startswith("x86") else 16
"""Of a vector. SSE takes it in halves, which costs less than to read every weight for half as many voxels."""

VECTORS = 2
"""Vectors of voxels side by side."""

ROWS = 4 if BYTES == 32 else 8
"""Shufflings at once: with VECTORS sums each, no more than stay in registers (AVX has 16, others 32)."""

LAYOUT = BYTES, VECTORS, ROWS
"""What compiled code and the memory that it is given must agree on."""


def _vectors(kind: Any) -> tuple[ir.VectorType, ir.VectorType]:
    """Vector of an array's items, and of integers as wide."""
    bits = kind.dtype.bitwidth
    lanes = 8 * BYTES // bits
    item = ir.FloatType() if bits == 32 else ir.DoubleType()
    return ir.VectorType(item, lanes), ir.VectorType(ir.IntType(bits), lanes)


def _opened(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Arguments as generated code sees them: an array has ``data`` and ``shape``."""
    return [
        context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def _place(builder: Any, array: Any, item: Any, vector: ir.VectorType) -> Any:
    """Pointer to the vector that begins at an item, a number now or when the code runs."""
    item = ir.IntType(64)(item) if isinstance(item, int) else item
    return builder.bitcast(builder.gep(array.data, [item]), vector.as_pointer())


def _load(builder: Any, array: Any, item: Any, vector: ir.VectorType) -> Any:
    return builder.load(_place(builder, array, item, vector), align=4)


def _store(builder: Any, value: Any, array: Any, item: Any) -> None:
    builder.store(value, _place(builder, array, item, value.type), align=4)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    """Vector that repeats a number."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(builder.insert_element(empty, value, ir.IntType(32)(0)), empty, first)


@intrinsic
def multiply(typing: Any, weights: Any, panel: Any, scores: Any, add: Any) -> Any:
    """Vector code of `vectors.multiply_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        W, E, scores, add = _opened(context, builder, signature, arguments)
        vector, _ = _vectors(signature.args[0])
        lanes = vector.count
        zero = ir.Constant(vector, None)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(ROWS * VECTORS)]
        with cgutils.for_range(builder, builder.extract_value(W.shape, 0)) as subject:

            def at(item: int, step: int) -> Any:
                i = builder.mul(subject.index, subject.index.type(step))
                return builder.add(i, i.type(item))

            residuals = [_load(builder, E, at(c * lanes, VECTORS * lanes), vector) for c in range(VECTORS)]
            for r in range(ROWS):
                weight = builder.load(builder.gep(W.data, [at(r, ROWS)]))
                repeated = _splat(builder, weight, lanes)
                for place, residual in zip(sums[r * VECTORS :], residuals, strict=False):
                    # Fused into one instruction where there is one.
                    product = builder.fmul(repeated, residual, flags=["contract"])
                    total = builder.fadd(builder.load(place), product, flags=["contract"])
                    builder.store(total, place)
        with builder.if_then(add):
            for i, place in enumerate(sums):
                there = _load(builder, scores, i * lanes, vector)
                builder.store(builder.fadd(there, builder.load(place)), place)
        for i, place in enumerate(sums):
            _store(builder, builder.load(place), scores, i * lanes)
        return context.get_dummy_value()

    return types.void(weights, panel, scores, add), generate


@intrinsic
def gather(typing: Any, places: Any, permuted: Any, panel: Any, scores: Any, add: Any) -> Any:
    """Vector code of `vectors.gather_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, permuted, panel, scores, add = _opened(context, builder, signature, arguments)
        vector, _ = _vectors(signature.args[1])
        lanes = vector.count
        zero = ir.Constant(vector, None)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(ROWS * VECTORS)]
        with cgutils.for_range(builder, builder.extract_value(places.shape, 0)) as subject:

            def at(item: int, step: int) -> Any:
                i = builder.mul(subject.index, subject.index.type(step))
                return builder.add(i, i.type(item))

            own = [_load(builder, panel, at(c * lanes, VECTORS * lanes), vector) for c in range(VECTORS)]
            for r in range(ROWS):
                place = builder.sext(builder.load(builder.gep(places.data, [at(r, ROWS)])), ir.IntType(64))
                first = builder.mul(place, place.type(VECTORS * lanes))
                for c in range(VECTORS):
                    there = _load(builder, permuted, builder.add(first, first.type(c * lanes)), vector)
                    product = builder.fmul(own[c], there, flags=["contract"])
                    total = builder.fadd(builder.load(sums[r * VECTORS + c]), product, flags=["contract"])
                    builder.store(total, sums[r * VECTORS + c])
        with builder.if_then(add):
            for i, kept in enumerate(sums):
                there = _load(builder, scores, i * lanes, vector)
                builder.store(builder.fadd(there, builder.load(kept)), kept)
        for i, kept in enumerate(sums):
            _store(builder, builder.load(kept), scores, i * lanes)
        return context.get_dummy_value()

    return types.void(places, permuted, panel, scores, add), generate


@intrinsic
def reduce(typing: Any, scores: Any, two_sided: Any, reference: Any, threshold: Any, counts: Any, best: Any) -> Any:
    """Vector code of `vectors.reduce_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, two_sided, reference, threshold, counts, best = _opened(context, builder, signature, arguments)
        vector, integers = _vectors(signature.args[0])
        lanes = vector.count
        tally = ir.VectorType(ir.IntType(32), lanes)

        def raised(old: Any, new: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", new, old), new, old)

        every_bit = integers.element(-1)
        but_the_sign = builder.lshr(every_bit, integers.element(1))
        kept = _splat(builder, builder.select(two_sided, but_the_sign, every_bit), lanes)
        limits = [_load(builder, reference, c * lanes, vector) for c in range(VECTORS)]
        totals = [_load(builder, counts, c * lanes, tally) for c in range(VECTORS)]
        limit = _splat(builder, builder.load(threshold.data), lanes)
        lowest = ir.Constant(vector, [float("-inf")] * lanes)
        rows = ir.IntType(64)(0)
        for r in range(ROWS):
            peak = lowest
            for c in range(VECTORS):
                score = _load(builder, scores, (r * VECTORS + c) * lanes, vector)
                score = builder.bitcast(builder.and_(builder.bitcast(score, integers), kept), vector)
                reached = builder.fcmp_ordered(">=", score, limits[c])
                totals[c] = builder.sub(totals[c], builder.sext(reached, tally))
                peak = raised(peak, score)
            above = builder.bitcast(builder.fcmp_ordered(">=", peak, limit), ir.IntType(lanes))
            bit = builder.select(builder.icmp_unsigned("!=", above, above.type(0)), rows.type(1 << r), rows.type(0))
            rows = builder.or_(rows, bit)
            _store(builder, raised(_load(builder, best, r * lanes, vector), peak), best, r * lanes)
        for c in range(VECTORS):
            _store(builder, totals[c], counts, c * lanes)
        return rows

    return types.int64(scores, two_sided, reference, threshold, counts, best), generate


@intrinsic
def above(typing: Any, row: Any, two_sided: Any, threshold: Any) -> Any:
    """Vector code of `vectors.above_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, two_sided, threshold = _opened(context, builder, signature, arguments)
        vector, integers = _vectors(signature.args[0])
        lanes, bits = vector.count, ir.IntType(64)
        every_bit = integers.element(-1)
        but_the_sign = builder.lshr(every_bit, integers.element(1))
        kept = _splat(builder, builder.select(two_sided, but_the_sign, every_bit), lanes)
        limit = _splat(builder, builder.load(threshold.data), lanes)
        found = bits(0)
        for c in range(VECTORS):
            score = builder.bitcast(_load(builder, row, c * lanes, vector), integers)
            score = builder.bitcast(builder.and_(score, kept), vector)
            there = builder.bitcast(builder.fcmp_ordered(">=", score, limit), ir.IntType(lanes))
            found = builder.or_(found, builder.shl(builder.zext(there, bits), bits(c * lanes)))
        return found

    return types.int64(row, two_sided, threshold), generate


@intrinsic
def first_bit(typing: Any, bits: Any) -> Any:
    """Compiled form of `vectors.first_bit_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@intrinsic
def borrowed(typing: Any, given: Any) -> Any:
    """Compiled form of `vectors.borrowed_plain`."""

    def bare(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.UniTuple | types.Tuple):
            parts = cgutils.unpack_tuple(builder, value, len(kind))
            there = [bare(context, builder, one, part) for one, part in zip(kind.types, parts, strict=True)]
            return context.make_tuple(builder, kind, there)
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value)
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            return array._getvalue()
        return value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return bare(context, builder, signature.args[0], arguments[0])

    return given(given), generate


def score_signature(dtype: Any) -> Any:
    """Of the score kernels of a precision, given numba's type of its numbers."""
    table, line = types.Array(dtype, 2, "C"), types.Array(dtype, 1, "C")
    return types.void(table, table, types.Array(types.int64, 1, "C"), line)


@intrinsic
def call(typing: Any, address: Any, products: Any, fixed: Any, sizes: Any, constants: Any) -> Any:
    """Compiled form of `scores.call_plain`."""
    of_score = score_signature(products.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of_values = [context.get_value_type(kind) for kind in (types.void, *of_score.args)]
        pointer = ir.FunctionType(of_values[0], of_values[1:]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.intp, *of_score.args), generate


class Lanes:
    """A vector of numbers: what is done with it in Python is done by the code that is compiled."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, operation: str, other: Any, reverse: bool = False) -> Lanes:
        left, right = self.value, self.as_lanes(other).value
        left, right = (right, left) if reverse else (left, right)
        return Lanes(self.builder, getattr(self.builder, operation)(left, right, flags=_FLAGS))

    def as_lanes(self, other: Any) -> Lanes:
        """Another vector as it is, or one that repeats a number."""
        if isinstance(other, Lanes):
            return other
        return Lanes(self.builder, ir.Constant(self.value.type, [float(other)] * self.value.type.count))

    def __add__(self, other: Any) -> Lanes:
        return self._with("fadd", other)

    def __sub__(self, other: Any) -> Lanes:
        return self._with("fsub", other)

    def __mul__(self, other: Any) -> Lanes:
        return self._with("fmul", other)

    def __truediv__(self, other: Any) -> Lanes:
        return self._with("fdiv", other)

    def __radd__(self, other: Any) -> Lanes:
        return self._with("fadd", other, reverse=True)

    def __rsub__(self, other: Any) -> Lanes:
        return self._with("fsub", other, reverse=True)

    def __rmul__(self, other: Any) -> Lanes:
        return self._with("fmul", other, reverse=True)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._with("fdiv", other, reverse=True)

    def __neg__(self) -> Lanes:
        return Lanes(self.builder, self.builder.fneg(self.value))

    def __abs__(self) -> Lanes:
        return self.by("llvm.fabs")

    def by(self, name: str) -> Lanes:
        """One of LLVM's functions of it."""
        kind = self.value.type
        full = f"{name}.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind]), full)
        return Lanes(self.builder, self.builder.call(function, [self.value], fastmath=_FLAGS))


_FLAGS = ("contract", "arcp")  # as of kernels, see `_jit`


class Registers:
    """What `straight.Numbers` is, of vectors: rows and constants of a score kernel while it is compiled."""

    def __init__(self, builder: Any, vector: ir.VectorType, row: Any, constant: Any) -> None:
        self.builder, self.vector, self._row, self._constant = builder, vector, row, constant

    def row(self, number: int) -> Lanes:
        """See `straight.Numbers`."""
        return Lanes(self.builder, self._row(number))

    def constant(self, number: int) -> Lanes:
        """See `straight.Numbers`."""
        return Lanes(self.builder, _splat(self.builder, self._constant(number), self.vector.count))

    def sqrt(self, x: Lanes) -> Lanes:
        """See `straight.Numbers`."""
        return x.by("llvm.sqrt")

    def where_less(self, x: Any, y: Any, yes: Any, no: Any) -> Lanes:
        """See `straight.Numbers`."""
        one = next(value for value in (x, y) if isinstance(value, Lanes))
        x, y, yes, no = (one.as_lanes(value).value for value in (x, y, yes, no))
        return Lanes(self.builder, self.builder.select(self.builder.fcmp_ordered("<", x, y), yes, no))


def straight(recipe: Any) -> Any:
    """Vector code of a recipe (`straight.Recipe`): of products, constants, and what is told in words."""

    @intrinsic(prefer_literal=True)
    def code(typing: Any, products: Any, constants: Any, told: Any) -> Any:
        if not isinstance(told, types.StringLiteral):
            return None
        numbers = tuple(map(int, told.literal_value.split()))

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table, constants, _ = _opened(context, builder, signature, arguments)
            vector, _ = _vectors(signature.args[0])
            n = builder.extract_value(table.shape, 1)
            with cgutils.for_range(builder, builder.sdiv(n, n.type(vector.count))) as part:
                first = builder.mul(part.index, n.type(vector.count))

                def item(number: int) -> Any:
                    return builder.add(builder.mul(n, n.type(number)), first)

                loaded: dict[int, Any] = {}

                def row(number: int) -> Any:
                    if number not in loaded:
                        loaded[number] = _load(builder, table, item(number), vector)
                    return loaded[number]

                def constant(number: int) -> Any:
                    return builder.load(builder.gep(constants.data, [n.type(number)]))

                place, value = recipe(Registers(builder, vector, row, constant), *numbers)
                _store(builder, value.value, table, item(place))
            return context.get_dummy_value()

        return types.void(products, constants, told), generate

    return code
