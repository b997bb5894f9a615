/* Checks and traffic of the recurrences. */
#include "kernels/scan.h"

#include <stddef.h>

#include "kernels/launch.h"

/* What each kind reads and computes besides the elements of S. */
static const struct facts {
    uint32_t element_flop; /* of S, a token */
    uint32_t useful_flop;
    uint32_t row_flop;   /* of a row of S, a token */
    uint32_t block_flop; /* of a block of threads, a token: rates, decays, betas */
    uint32_t element_exps, row_exps, block_exps;
    uint32_t k_flop, k_exps; /* of an element of k, q */
    uint32_t q_flop;
    uint32_t block_rates;   /* rates and betas read by a block, a token */
    uint32_t block_weights; /* of those with a number a head */
    bool skips;             /* has d */
} kinds[] = {
    [SCAN_MAMBA1] = {6, 5, 3, 0, 1, 1, 0, 0, 0, 0, 0, 0, true},
    [SCAN_MAMBA2] = {5, 5, 3, 2, 0, 0, 3, 0, 0, 0, 1, 2, true},
    [SCAN_GDN] = {7, 7, 2, 2, 0, 0, 4, 3, 0, 3, 2, 2, false},
    [SCAN_KDA] = {7, 7, 2, 0, 0, 0, 1, 3, 0, 3, 1, 0, false},
    [SCAN_LIGHTNING] = {5, 5, 1, 1, 0, 1, 2, 1, 1, 1, 0, 0, false},
    [SCAN_RETENTION] = {5, 5, 0, 1, 0, 0, 2, 1, 0, 0, 1, 0, false},
};

static const char *refuses(const struct scan_args *a)
{
    uint32_t k = a->k_dim;

    if (!a->sequences || a->sequences > 65535 || !a->tokens || !a->heads)
        return "1 to 65535 sequences of at least one token and head";
    if (k < SCAN_K_DIM_MIN || k > SCAN_K_DIM_MAX || (k & (k - 1)))
        return "keys of 16, 32, 64, 128 or 256 elements";
    if (!a->v_dim || a->v_dim % 8)
        return "values of a multiple of 8 elements";
    if (!a->k_heads || a->heads % a->k_heads)
        return "heads are a multiple of those of keys";
    if (a->kind == SCAN_MAMBA1 && a->heads != 1)
        return "Mamba-1 has one head of all channels";
    if (a->k_stride % 8 || a->v_stride % 8 || (a->kind == SCAN_KDA && a->rate_stride % 8))
        return "rows of a multiple of 8 elements";
    if (a->slot_bytes % 16)
        return "states are aligned to 16 bytes";
    if (scan_tiles(a) > INT32_MAX / a->heads)
        return "at most 2^31 blocks of threads a sequence";
    return NULL;
}

enum device_status scan_run(struct device *d, const struct scan_args *a)
{
    const char *bad = refuses(a);

    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "scan: %s", bad)
               : device_launch(d, KERNEL_scan, a);
}

/* Numbers of rates and weights that are not one a head. */
static void add_special(const struct scan_args *a, uint64_t blocks, uint64_t rows,
                        struct traffic *t)
{
    if (a->kind == SCAN_MAMBA1) {
        uint64_t all = (uint64_t)a->sequences * a->v_dim * a->k_dim;
        t->read_bytes[TAG_ACTIVATION] += 2 * rows;
        t->read_bytes[TAG_WEIGHTS] += 2 * all;
        t->exps += all;
    }
    if (a->kind == SCAN_KDA) { /* a_log by each thread of a warp */
        t->read_bytes[TAG_ACTIVATION] += 2 * blocks * a->k_dim;
        t->read_bytes[TAG_WEIGHTS] += 2 * blocks * (a->k_dim + 32);
        t->vector_flop += 2 * blocks * a->k_dim;
        t->exps += blocks * (2 * (uint64_t)a->k_dim + 1);
    }
}

void scan_traffic(const struct scan_args *a, struct traffic *t)
{
    const struct facts *f = &kinds[a->kind];
    uint64_t n = a->sequences, tokens = n * a->tokens;
    uint64_t blocks = tokens * a->heads * scan_tiles(a); /* times their tokens */
    uint64_t rows = tokens * a->heads * a->v_dim;        /* of S, times their tokens */
    uint64_t state = n * a->heads * a->v_dim * a->k_dim;

    t->read_bytes[TAG_STATE] += state * (a->wide ? 4 : 2);
    t->written_bytes[TAG_STATE] += state * (a->wide ? 4 : 2);
    t->read_bytes[TAG_ACTIVATION] +=
        2 * blocks * (2 * (uint64_t)a->k_dim + f->block_rates) + 2 * rows;
    t->read_bytes[TAG_WEIGHTS] += 2 * blocks * f->block_weights;
    if (f->skips)
        t->read_bytes[TAG_WEIGHTS] += 2 * n * a->heads * a->v_dim * scan_lanes(a);
    t->written_bytes[TAG_ACTIVATION] += 2 * rows;
    t->vector_flop += rows * (f->element_flop * a->k_dim + f->row_flop) +
                      blocks * (f->block_flop + (uint64_t)a->k_dim * (f->k_flop + f->q_flop));
    t->useful_flop += rows * f->useful_flop * a->k_dim;
    t->exps += rows * ((uint64_t)f->element_exps * a->k_dim + f->row_exps) +
               blocks * (f->block_exps + 2 * (uint64_t)a->k_dim * f->k_exps);
    add_special(a, blocks, rows, t);
}
