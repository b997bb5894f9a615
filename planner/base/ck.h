/* Checked 64-bit arithmetic, sticky like NaN: chain freely, look at `over` once. */
#ifndef KVBUDGET_PLANNER_BASE_CK_H
#define KVBUDGET_PLANNER_BASE_CK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

__extension__ typedef unsigned __int128 kv_u128;

struct ck {
    bool over;
};

static inline uint64_t ck_add(struct ck *c, uint64_t a, uint64_t b)
{
    uint64_t r;
    c->over |= __builtin_add_overflow(a, b, &r);
    return r;
}

static inline uint64_t ck_sub(struct ck *c, uint64_t a, uint64_t b)
{
    uint64_t r;
    c->over |= __builtin_sub_overflow(a, b, &r);
    return r;
}

static inline uint64_t ck_mul(struct ck *c, uint64_t a, uint64_t b)
{
    uint64_t r;
    c->over |= __builtin_mul_overflow(a, b, &r);
    return r;
}

/* ceil(a / b); b must not be 0. */
static inline uint64_t ck_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* a * b / c without an intermediate overflow, rounded down; c must not be 0. */
static inline uint64_t ck_muldiv(struct ck *c, uint64_t a, uint64_t b, uint64_t d)
{
    kv_u128 r = (kv_u128)a * b / d;
    c->over |= r > UINT64_MAX;
    return (uint64_t)r;
}

static inline uint64_t ck_product(struct ck *c, const uint64_t *v, size_t n)
{
    uint64_t r = 1;
    for (size_t i = 0; i < n; i++)
        r = ck_mul(c, r, v[i]);
    return r;
}

/* ck_prod(&ck, a, b, c, ...): the product of all arguments. */
#define ck_prod(c, ...)                                                                        \
    ck_product((c), (const uint64_t[]){__VA_ARGS__},                                           \
               sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
