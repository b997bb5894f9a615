/* Arithmetic of one thread: what an instruction gives from the values of its operands. Values
 * travel in 64 bits, zero-extended.
 *
 * source: PTX ISA 9.0, sections 9.7.1 to 9.7.9 */
#include <math.h>
#include <string.h>

#include "tests/ptx/run.h"

static unsigned bits_in(uint8_t type)
{
    if (type == WORD_PRED)
        return 1;
    return type <= WORD_B8 ? 8 : type <= WORD_BF16 ? 16 : type <= WORD_BF16X2 ? 32 : 64;
}

static uint64_t masked(uint64_t x, uint8_t type)
{
    unsigned bits = bits_in(type);

    return bits == 64 ? x : x & ((UINT64_C(1) << bits) - 1);
}

static bool is_signed(uint8_t type)
{
    return type == WORD_S8 || type == WORD_S16 || type == WORD_S32 || type == WORD_S64;
}

static bool is_float(uint8_t type)
{
    return type == WORD_F32 || type == WORD_F64;
}

static int64_t extended(uint64_t x, uint8_t type)
{
    unsigned shift = 64 - bits_in(type);

    return (int64_t)(x << shift) >> shift;
}

float float_of(uint64_t bits)
{
    uint32_t u = (uint32_t)bits;
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

uint64_t bits_of(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

static double double_of(uint64_t bits, uint8_t type)
{
    double x;

    if (type == WORD_F32)
        return (double)float_of(bits);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x is exact in the type already, or rounds to it here, once. */
static uint64_t bits_as(double x, uint8_t type)
{
    uint64_t u;

    if (type == WORD_F32)
        return bits_of((float)x);
    memcpy(&u, &x, sizeof u);
    return u;
}

float half_of(uint64_t h)
{
    uint32_t exponent = h >> 10 & 31u, fraction = h & 1023u;
    float x = exponent == 31 ? (fraction ? NAN : INFINITY)
              : exponent     ? ldexpf((float)(1024 + fraction), (int)exponent - 25)
                             : ldexpf((float)fraction, -24);

    return h >> 15 & 1u ? -x : x;
}

/* To `digits` significant bits, to nearest, ties to even, for a number at 2^least or below in
 * steps of 2^least; exact in a double. */
static double rounded(double x, int digits, int least)
{
    int e;

    if (x == 0 || !isfinite(x))
        return x;
    frexp(x, &e);
    e = e - digits < least ? least : e - digits;
    return ldexp(nearbyint(ldexp(x, -e)), e);
}

static uint64_t to_half(double x)
{
    double r = rounded(x, 11, -24), size = fabs(r);
    uint64_t sign = signbit(x) ? 0x8000u : 0;
    int e;

    if (isnan(x))
        return 0x7fff;
    if (size > 65504)
        return sign | 0x7c00u;
    if (size < ldexp(1, -14))
        return sign | (uint64_t)ldexp(size, 24);
    size = frexp(size, &e);
    return sign | (((uint64_t)(e + 14) << 10) + ((uint64_t)ldexp(size, 11) - 1024));
}

static uint64_t to_bf16(double x)
{
    if (isnan(x))
        return 0x7fff;
    return bits_of((float)rounded(x, 8, -133)) >> 16;
}

/* The lower and the upper half apart. */
static uint64_t fma_pair(const uint64_t *x, bool bf16)
{
    uint64_t out = 0;

    for (unsigned s = 0; s < 32; s += 16) {
        double v[3];
        for (unsigned k = 0; k < 3; k++)
            v[k] = (double)(bf16 ? float_of(x[k] >> s << 16) : half_of(x[k] >> s & 0xffff));
        out |= (bf16 ? to_bf16(v[0] * v[1] + v[2]) : to_half(v[0] * v[1] + v[2])) << s;
    }
    return out;
}

/* The smaller or the larger; what is no number loses, and -0 is below 0. */
static double lesser(double a, double b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) ? b : a;
    return a < b || (a == b && signbit(a)) ? a : b;
}

static uint64_t float_value(const struct insn *i, const uint64_t *x)
{
    uint8_t type = i->type;
    double a = double_of(x[0], type), b = i->n > 2 ? double_of(x[1], type) : 0;

    switch (i->op) {
    case OP_ADD: return bits_as(a + b, type);
    case OP_SUB: return bits_as(a - b, type);
    case OP_MUL: return bits_as(a * b, type);
    case OP_DIV: return bits_as(a / b, type);
    case OP_RCP: return bits_as(1 / a, type);
    case OP_SQRT: return bits_as(sqrt(a), type);
    case OP_MIN: return bits_as(lesser(a, b), type);
    case OP_MAX: return bits_as(-lesser(-a, -b), type);
    case OP_NEG: return bits_as(-a, type);
    case OP_ABS: return bits_as(fabs(a), type);
    case OP_EX2: {
        float y = fabs(a) < 0x1p-126 ? 1.0f : exp2f((float)a);
        return bits_of(y < 0x1p-126f ? 0.0f : y);
    }
    default: /* OP_FMA, OP_MAD */
        if (type == WORD_F64)
            return bits_as(fma(a, b, double_of(x[2], type)), type);
        return bits_of(fmaf((float)a, (float)b, float_of(x[2])));
    }
}

static uint64_t shifted(const struct insn *i, uint64_t a, uint64_t by)
{
    unsigned bits = bits_in(i->type);

    if (i->op == OP_SHL)
        return by >= bits ? 0 : a << by;
    if (is_signed(i->type))
        return (uint64_t)(extended(a, i->type) >> (by >= bits ? bits - 1 : by));
    return by >= bits ? 0 : a >> by;
}

static uint64_t divided(const struct insn *i, uint64_t a, uint64_t b)
{
    int64_t n = extended(a, i->type), d = extended(b, i->type);

    if (!b)
        return UINT64_MAX;
    if (is_signed(i->type))
        return (uint64_t)(d == -1           ? (i->op == OP_DIV ? -n : 0)
                          : i->op == OP_DIV ? n / d
                                            : n % d);
    return i->op == OP_DIV ? a / b : a % b;
}

/* The upper half of the product of two 64-bit numbers. */
static uint64_t high_of(uint64_t a, uint64_t b)
{
    uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    uint64_t middle = ah * bl + (al * bl >> 32), low = al * bh + (middle & 0xffffffffu);

    return ah * bh + (middle >> 32) + (low >> 32);
}

static uint64_t multiplied(const struct insn *i, uint64_t a, uint64_t b)
{
    if (insn_has(i, WORD_HI))
        return bits_in(i->type) == 32 ? a * b >> 32 : high_of(a, b);
    if (is_signed(i->type))
        return (uint64_t)extended(a, i->type) * (uint64_t)extended(b, i->type);
    return a * b;
}

static uint64_t least_of(const struct insn *i, uint64_t a, uint64_t b)
{
    bool below = is_signed(i->type) ? extended(a, i->type) < extended(b, i->type) : a < b;

    return below == (i->op == OP_MIN) ? a : b;
}

/* Four of eight bytes, each chosen by four bits: three of them a number, the top one spreads
 * the byte's sign. */
static uint64_t permuted(const uint64_t *x)
{
    uint64_t from = (x[1] & 0xffffffffu) << 32 | (x[0] & 0xffffffffu), out = 0;

    for (unsigned k = 0; k < 4; k++) {
        uint64_t s = x[2] >> 4 * k, byte = from >> 8 * (s & 7) & 0xff;
        out |= (s & 8 ? (byte >> 7) * 0xff : byte) << 8 * k;
    }
    return out;
}

/* a into b, at bit c, so many bits. */
static uint64_t inserted(const struct insn *i, const uint64_t *x)
{
    unsigned bits = bits_in(i->type), at = x[2] & 0xff, n = x[3] & 0xff;
    uint64_t mask;

    if (at >= bits || !n)
        return x[1];
    mask = (n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << at;
    return (x[1] & ~mask) | (x[0] << at & mask);
}

/* Bit by bit: the three operands' bits choose one of the eight of a table. */
static uint64_t looked_up(const uint64_t *x)
{
    uint64_t out = 0;

    for (unsigned k = 0; k < 8; k++)
        if (x[3] >> k & 1)
            out |= (k & 4 ? x[0] : ~x[0]) & (k & 2 ? x[1] : ~x[1]) & (k & 1 ? x[2] : ~x[2]);
    return out;
}

static uint64_t integer_value(const struct insn *i, const uint64_t *x)
{
    uint64_t a = masked(x[0], i->type), b = i->n > 2 ? masked(x[1], i->type) : 0;

    switch (i->op) {
    case OP_ADD: return a + b;
    case OP_SUB: return a - b;
    case OP_MUL: return multiplied(i, a, b);
    case OP_MAD: return multiplied(i, a, b) + x[2];
    case OP_DIV:
    case OP_REM: return divided(i, a, b);
    case OP_MIN:
    case OP_MAX: return least_of(i, a, b);
    case OP_NEG: return 0 - a;
    case OP_ABS: return extended(a, i->type) < 0 ? 0 - a : a;
    case OP_AND: return a & b;
    case OP_OR: return a | b;
    case OP_XOR: return a ^ b;
    case OP_LOP3: return looked_up(x);
    case OP_NOT: return ~a;
    case OP_SHL:
    case OP_SHR: return shifted(i, a, x[1] & 0xffffffffu);
    case OP_BFI: return inserted(i, x);
    case OP_PRMT: return permuted(x);
    default: return a; /* OP_MOV */
    }
}

static bool holds(uint8_t compare, int order)
{
    switch (compare) {
    case WORD_EQ:
    case WORD_EQU: return order == 0;
    case WORD_NE:
    case WORD_NEU: return order != 0;
    case WORD_LT:
    case WORD_LTU: return order < 0;
    case WORD_LE:
    case WORD_LEU: return order <= 0;
    case WORD_GT:
    case WORD_GTU: return order > 0;
    default: return order >= 0;
    }
}

static uint64_t compared(const struct insn *i, const uint64_t *x)
{
    uint64_t a = masked(x[0], i->type), b = masked(x[1], i->type);
    int64_t sa = extended(a, i->type), sb = extended(b, i->type);

    if (is_float(i->type)) {
        double fa = double_of(a, i->type), fb = double_of(b, i->type);
        if (isnan(fa) || isnan(fb))
            return i->compare >= WORD_EQU;
        return holds(i->compare, (fa > fb) - (fa < fb));
    }
    if (is_signed(i->type))
        return holds(i->compare, (sa > sb) - (sa < sb));
    return holds(i->compare, (a > b) - (a < b));
}

/* To an integer: towards zero or to nearest, held to the type's range; no number gives 0. */
static uint64_t to_integer(double x, const struct insn *i)
{
    bool with_sign = is_signed(i->type);
    int bits = (int)bits_in(i->type);
    double least = with_sign ? -ldexp(1, bits - 1) : 0, end = ldexp(1, bits - with_sign);

    if (isnan(x))
        return 0;
    x = insn_has(i, WORD_RNI) ? nearbyint(x) : trunc(x);
    if (x >= end)
        return with_sign ? (UINT64_C(1) << (bits - 1)) - 1 : UINT64_MAX >> (64 - bits);
    if (x < least)
        x = least;
    return x < 0 ? (uint64_t)(int64_t)x : (uint64_t)x;
}

static uint64_t converted(const struct insn *i, const uint64_t *x)
{
    uint64_t a = masked(x[0], i->from);
    double v = is_float(i->from)     ? double_of(a, i->from)
               : i->from == WORD_F16 ? (double)half_of(a)
               : is_signed(i->from)  ? (double)extended(a, i->from)
                                     : (double)a;

    switch (i->type) {
    case WORD_F16: return to_half(v);
    case WORD_F16X2: return to_half(v) << 16 | to_half((double)float_of(x[1]));
    case WORD_BF16: return to_bf16(v);
    case WORD_BF16X2: return to_bf16(v) << 16 | to_bf16((double)float_of(x[1]));
    case WORD_F32: /* of 64 bits a double may round before */
        if (i->from == WORD_U64 || i->from == WORD_S64)
            return bits_of(is_signed(i->from) ? (float)extended(a, i->from) : (float)a);
        return bits_of((float)v);
    case WORD_F64: return bits_as(insn_has(i, WORD_RNI) ? nearbyint(v) : v, WORD_F64);
    default: break;
    }
    if (is_float(i->from))
        return to_integer(v, i);
    return is_signed(i->from) ? (uint64_t)extended(a, i->from) : a;
}

uint64_t value_of(const struct insn *i, const uint64_t *x)
{
    uint8_t wide[] = {[WORD_U16] = WORD_U32,
                      [WORD_U32] = WORD_U64,
                      [WORD_S16] = WORD_S32,
                      [WORD_S32] = WORD_S64,
                      [WORD_S64] = 0};
    bool bits_only = i->op == OP_MOV || i->op == OP_SELP;

    if (i->op == OP_SETP)
        return compared(i, x);
    if (i->op == OP_SELP)
        return masked(x[2] & 1 ? x[0] : x[1], i->type);
    if (i->op == OP_CVT)
        return masked(converted(i, x), i->type);
    if (i->op == OP_FMA && (i->type == WORD_BF16X2 || i->type == WORD_F16X2))
        return fma_pair(x, i->type == WORD_BF16X2);
    if (is_float(i->type) && !bits_only)
        return float_value(i, x);
    return masked(integer_value(i, x), insn_has(i, WORD_WIDE) ? wide[i->type] : i->type);
}
