/* CAKE: how much cache a layer would like to have, by how spread the attention of the last
 * queries is over the rows before them, and by how it shifts from one of them to the next,
 *
 *     preferences[sequence] = entropy ^ (1 / tau_entropy) * variance ^ (1 / tau_variance)
 *
 * with the sums of both that scores (scores.h) leaves in parts. Layers share the budget of a
 * model in proportion to their preferences.
 *
 * source: arXiv:2503.12491; antgroup/cakekv@c4675ce cake/utils.py. */
#ifndef KVBUDGET_KERNELS_PREFER_H
#define KVBUDGET_KERNELS_PREFER_H

#include "kernels/device.h"

enum { PREFER_THREADS = 256 };

struct prefer_args {
    const float *parts; /* [sequences][n]: pairs of entropy and variance */
    float *preferences; /* [sequences] */
    uint32_t sequences, n;
    float tau_entropy, tau_variance; /* above 0 */
};

enum device_status prefer_run(struct device *d, const struct prefer_args *a);

/* What it issues; all of it is TAG_WORK but for the preferences, TAG_STATE. Useful are the two
 * sums. Adds to *t. */
void prefer_traffic(const struct prefer_args *a, struct traffic *t);

#endif
