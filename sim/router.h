/* Which replica a request goes to. A router knows what the replicas were like when their last
 * whole step ended. */
#ifndef KVBUDGET_SIM_ROUTER_H
#define KVBUDGET_SIM_ROUTER_H

#include "sim/replica.h"

struct routing {
    enum router router;
    struct replica *replicas; /* [n]: those to choose from */
    uint32_t n;
    uint32_t turn; /* round robin: the next */
};

/* The replica for a request that arrives at time_s; q NULL: its cache comes along, so that no
 * prefix matters. source of the prefix-aware rule: sgl-router, sgl-router/src/policies/
 * cache_aware.rs (longest match, but the shortest queue once loads differ by more than 64
 * requests and by half). */
uint32_t router_choose(struct routing *g, const struct request *q, double time_s);

#endif
