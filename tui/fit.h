/* The fewest GPUs that hold the asked batch: what F on Budget applies. */
#ifndef KVBUDGET_TUI_FIT_H
#define KVBUDGET_TUI_FIT_H

#include "tui/session.h"

struct fit {
    bool found;
    uint32_t tp, pp, dp, gpus;
};

/* Tries tensor parallelism up to 8 (the GPUs of a server), pipeline stages up to 8, and as many
 * replicas as the batch takes, every other setting as it is; among equal numbers of GPUs the
 * one with the fewest replicas, then stages. Allocates in scratch arenas. */
void fit_least(const struct problem *p, struct fit *out);

/* "16 GPUs as TP 8 x PP 2". */
const char *fit_words(struct arena *a, const struct fit *f);

/* Sets GPUs and parallelism, as one step of history. */
bool fit_apply(struct session *s, const struct fit *f, const char **why);

#endif
