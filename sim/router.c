#include "sim/router.h"

#include "sim/hold.h"

#define BALANCE_REQUESTS 64
#define BALANCE_RATIO 1.5

static uint64_t load_of(const struct replica *r)
{
    return r->running.n - r->ended_places + r->waiting.n + r->late.n + r->host.n;
}

static uint32_t least_loaded(const struct routing *g, uint64_t *most)
{
    uint32_t at = 0;

    *most = 0;
    for (uint32_t i = 0; i < g->n; i++) {
        uint64_t load = load_of(&g->replicas[i]);
        at = load < load_of(&g->replicas[at]) ? i : at;
        *most = load > *most ? load : *most;
    }
    return at;
}

static uint32_t by_prefix(const struct routing *g, const struct request *q, double time_s)
{
    uint64_t most, best = 0;
    uint32_t at = least_loaded(g, &most), least = at;
    uint64_t low = load_of(&g->replicas[least]);

    if (most - low > BALANCE_REQUESTS && (double)most > BALANCE_RATIO * (double)low)
        return least;
    for (uint32_t i = 0; i < g->n; i++) {
        uint64_t match;
        replica_sync(&g->replicas[i], time_s);
        match = hold_match_request(&g->replicas[i], q);
        if (match > best ||
            (match && match == best && load_of(&g->replicas[i]) < load_of(&g->replicas[at]))) {
            best = match;
            at = i;
        }
    }
    return at;
}

uint32_t router_choose(struct routing *g, const struct request *q, double time_s)
{
    uint64_t most;
    uint32_t at = 0;

    if (g->n == 1)
        return 0;
    switch (g->router) {
    case ROUTER_ROUND_ROBIN:
        at = g->turn;
        g->turn = (g->turn + 1) % g->n;
        break;
    case ROUTER_LEAST_LOADED: at = least_loaded(g, &most); break;
    case ROUTER_PREFIX_AWARE: at = q ? by_prefix(g, q, time_s) : least_loaded(g, &most); break;
    }
    return at;
}
