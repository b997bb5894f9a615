/* splitmix64; the seed is always explicit. */
#ifndef KVBUDGET_PLANNER_BASE_RNG_H
#define KVBUDGET_PLANNER_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s;
};

/* The products and the sum wrap on purpose; the builtins say so to every sanitizer. */
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z;

    __builtin_add_overflow(r->s, UINT64_C(0x9e3779b97f4a7c15), &r->s);
    z = r->s;
    __builtin_mul_overflow(z ^ (z >> 30), UINT64_C(0xbf58476d1ce4e5b9), &z);
    __builtin_mul_overflow(z ^ (z >> 27), UINT64_C(0x94d049bb133111eb), &z);
    return z ^ (z >> 31);
}

/* A value in [0, n), n > 0; the tiny modulo bias does not matter for tests and traces. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

/* A double in [0, 1). */
static inline double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * (1.0 / 9007199254740992.0);
}

#endif
