/* Instructions of a whole warp: all 32 threads wait at it, their operands are read from their
 * registers.
 *
 * source: PTX ISA 9.0, 9.7.9.6 (shfl.sync), 9.7.13.9 (vote.sync), 9.7.14 (mma, ldmatrix,
 * movmatrix: the fragment layouts) */
#include <string.h>

#include "tests/ptx/run.h"

enum { WARP = 32 };

static uint64_t *operand(struct thread *lanes, const struct insn *i, uint32_t lane, uint32_t n)
{
    return &frame_of(&lanes[lane])->r[i->r[n]];
}

/* Operands: result, whether the lane read was in range, value, lane or distance, the segment
 * and its end, the threads that take part. */
static void exchange(struct thread *lanes, const struct insn *i)
{
    uint64_t value[WARP], from[WARP], limit[WARP];
    uint32_t first = i->n == 6 ? 2 : 1;

    for (uint32_t k = 0; k < WARP; k++) {
        value[k] = *operand(lanes, i, k, first);
        from[k] = *operand(lanes, i, k, first + 1) & 31;
        limit[k] = *operand(lanes, i, k, first + 2);
    }
    for (uint32_t k = 0; k < WARP; k++) {
        uint32_t mask = limit[k] >> 8 & 31, most = (k & mask) | (limit[k] & 31 & ~mask);
        uint32_t by = (uint32_t)from[k], j = k ^ by;
        bool in_range;
        if (insn_has(i, WORD_IDX))
            j = (k & mask) | (by & ~mask);
        else if (insn_has(i, WORD_DOWN))
            j = k + by;
        else if (insn_has(i, WORD_UP))
            j = k - by;
        in_range = insn_has(i, WORD_UP) ? (int32_t)j >= (int32_t)most : j <= most;
        j = in_range ? j : k;
        if (lanes[j].state == THREAD_DONE || lanes[k].state == THREAD_DONE)
            block_fault(&lanes[k], "lane %u asks for lane %u, which has ended", k, j);
        *operand(lanes, i, k, 0) = value[j];
        if (i->n == 6)
            *operand(lanes, i, k, 1) = in_range;
    }
}

static void vote(struct thread *lanes, const struct insn *i)
{
    uint64_t bits = 0;

    for (uint32_t k = 0; k < WARP; k++)
        if (lanes[k].state != THREAD_DONE)
            bits |= (*operand(lanes, i, k, 1) & 1) << k;
    for (uint32_t k = 0; k < WARP; k++)
        if (lanes[k].state != THREAD_DONE)
            *operand(lanes, i, k, 0) = bits;
}

static double element(uint64_t word, uint32_t half, bool bf16)
{
    uint64_t h = word >> 16 * half & 0xffff;

    return (double)(bf16 ? float_of(h << 16) : half_of(h));
}

/* d = a b + c with 16 rows, 8 columns and 8 or 16 steps, summed in double: hardware does not
 * say in which order it sums. */
static void product(struct thread *lanes, const struct insn *i)
{
    bool deep = insn_has(i, WORD_M16N8K16), bf16 = i->second == WORD_BF16;
    uint32_t n_a = deep ? 4 : 2, n_b = n_a / 2, steps = deep ? 16 : 8;
    double a[16][16], b[16][8], d[16][8];

    for (uint32_t k = 0; k < WARP; k++) {
        uint32_t g = k / 4, q = k % 4;
        for (uint32_t e = 0; e < 2 * n_a; e++)
            a[g + e / 2 % 2 * 8][2 * q + e % 2 + e / 4 * 8] =
                element(*operand(lanes, i, k, 4 + e / 2), e % 2, bf16);
        for (uint32_t e = 0; e < 2 * n_b; e++)
            b[2 * q + e % 2 + e / 2 * 8][g] =
                element(*operand(lanes, i, k, 4 + n_a + e / 2), e % 2, bf16);
        for (uint32_t e = 0; e < 4; e++)
            d[g + e / 2 * 8][2 * q + e % 2] =
                (double)float_of(*operand(lanes, i, k, 4 + n_a + n_b + e));
    }
    for (uint32_t r = 0; r < 16; r++)
        for (uint32_t s = 0; s < 8 * steps; s++)
            d[r][s % 8] += a[r][s / 8] * b[s / 8][s % 8];
    for (uint32_t k = 0; k < WARP; k++)
        for (uint32_t e = 0; e < 4; e++)
            *operand(lanes, i, k, e) =
                bits_of((float)d[k / 4 + e / 2 * 8][2 * (k % 4) + e % 2]);
}

/* Four 8x8 matrices; lane 8 m + r gives the address of row r of matrix m. */
static void load_matrices(struct thread *lanes, const struct insn *i)
{
    uint16_t rows[WARP][8];

    for (uint32_t k = 0; k < WARP; k++)
        if (!memory_read(&lanes[k], WORD_SHARED, *operand(lanes, i, k, 4) + (uint64_t)i->offset,
                         rows[k], 16))
            return;
    for (uint32_t k = 0; k < WARP; k++)
        for (uint32_t m = 0; m < 4; m++) {
            uint32_t g = k / 4, q = 2 * (k % 4);
            bool turned = insn_has(i, WORD_TRANS);
            uint64_t low = turned ? rows[8 * m + q][g] : rows[8 * m + g][q];
            uint64_t high = turned ? rows[8 * m + q + 1][g] : rows[8 * m + g][q + 1];
            *operand(lanes, i, k, m) = low | high << 16;
        }
}

/* An 8x8 matrix across the warp, turned: lane 4 g + q has elements 2 q and 2 q + 1 of row g. */
static void turn_matrix(struct thread *lanes, const struct insn *i)
{
    uint64_t from[WARP];

    for (uint32_t k = 0; k < WARP; k++)
        from[k] = *operand(lanes, i, k, 1);
    for (uint32_t k = 0; k < WARP; k++) {
        uint32_t g = k / 4, row = 2 * (k % 4), shift = 16 * (g % 2);
        uint64_t low = from[4 * row + g / 2] >> shift & 0xffff;
        uint64_t high = from[4 * (row + 1) + g / 2] >> shift & 0xffff;
        *operand(lanes, i, k, 0) = low | high << 16;
    }
}

/* A thread that ended is missed only by what needs all 32. */
static bool all_here(struct thread *lanes, const struct insn *i)
{
    bool aligned = i->op == OP_MMA || i->op == OP_LDMATRIX || i->op == OP_MOVMATRIX;

    for (uint32_t k = 0; k < WARP; k++)
        if (lanes[k].state == THREAD_DONE && aligned) {
            block_fault(&lanes[k], "lane %u has ended before a matrix instruction", k);
            return false;
        }
    return true;
}

void warp_run(struct thread *lanes, const struct insn *i)
{
    if (!all_here(lanes, i))
        return;
    switch (i->op) {
    case OP_SHFL: exchange(lanes, i); break;
    case OP_VOTE: vote(lanes, i); break;
    case OP_MMA: product(lanes, i); break;
    case OP_LDMATRIX: load_matrices(lanes, i); break;
    case OP_MOVMATRIX: turn_matrix(lanes, i); break;
    default: lanes[0].b->warp_epoch[lanes[0].id / WARP]++; break;
    }
}
