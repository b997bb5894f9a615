/* Requests from distributions (sim/trace.h): when they arrive and how long they are. The only
 * random draws of the simulator; the seed is explicit, arrivals and lengths have streams of
 * their own, so that changing one leaves the other as it was. */
#ifndef KVBUDGET_SIM_ARRIVALS_H
#define KVBUDGET_SIM_ARRIVALS_H

#include "sim/trace.h"

struct arrivals_gen;

/* NULL with the reason recorded. */
struct arrivals_gen *arrivals_new(struct arena *a, const struct arrivals *in, struct diag *d);
/* The next request at the rate that was asked for; false after the last. */
bool arrivals_next(struct arrivals_gen *g, struct request *out);
void arrivals_restart(struct arrivals_gen *g);

#endif
