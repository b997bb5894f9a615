/* ExpectedAttention in the decoder: the moments of a prompt's queries, taken before they turn
 * to their places, and from them the scores of the prompt's rows once those are stored. Queries
 * of tokens that have left the layers early are not there, and do not count. */
#include "kernels/expect.h"

#include <math.h>

#include "validate/decoder_in.h"

enum { FUTURE = 512 }; /* places to come that are expected */

static const struct shape_store *expecting(const struct decoder *x, uint32_t layer)
{
    for (uint32_t k = 0; k < x->s.n_stores; k++) {
        const struct shape_store *t = &x->s.stores[k];
        if (t->layer == layer && t->rule == RULE_EXPECT &&
            t->prompt_rows < shape_whole(&x->s, t))
            return t;
    }
    return NULL;
}

enum device_status decoder_moments(struct decoder *x, const struct decoder_pass *w,
                                   uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct shape_store *t = w->prefill && w->last ? expecting(x, layer) : NULL;
    struct moments_args a = {.q = x->q,
                             .mean = x->moments,
                             .rows = w->rows,
                             .heads = l->q_heads,
                             .row_heads = l->q_heads,
                             .dim = l->k_dim,
                             .fp16 = x->s.fp16};
    enum device_status s;

    if (!t)
        return DEVICE_OK;
    decoder_tell(x, OP_ELEMENTWISE, layer, true);
    a.spread = x->moments + (uint64_t)l->q_heads * l->k_dim;
    a.skip = t->first > w->offset ? t->first - w->offset : 0;
    s = moments_run(x->d, &a);
    decoder_tell(x, OP_SCHEME, layer, true);
    return s;
}

enum device_status decoder_expect(struct decoder *x, uint32_t store,
                                  const struct prefill_args *attention, float *scores)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct shape_layer *l = &x->s.layers[t->layer];
    const struct shape_part *g = &l->parts[0];
    uint64_t mean = (uint64_t)g->first_q * l->k_dim;
    struct expect_args a = {.c = decoder_scratch(x, store, x->stores[store].scratch_length),
                            .mean = x->moments + mean,
                            .scores = scores,
                            .work = x->expected,
                            .q_heads = attention->q_heads,
                            .width = x->s.places,
                            .sinks = t->first,
                            .scale = attention->scale};

    a.c.table += t->from;
    a.spread = x->moments + (uint64_t)l->q_heads * l->k_dim + mean * l->k_dim;
    if (x->future) {
        a.turn = x->future + shape_turns(&x->s, l->k_dim, 1);
        a.rotary = l->k_dim / 16 * 16;
    }
    return expect_run(x->d, &a);
}

/* The mean turn of the places after a prompt, as rotary tables have those of one place. source:
 * NVIDIA/kvpress@8bb29b9 expected_attention_press.py, apply_avg_rope */
enum device_status decoder_fill_future(struct decoder *x)
{
    uint64_t words = shape_turns(&x->s, 0, 1);
    float *turns = ARENA_NEW(x->arena, float, words + 1), *at = turns;

    if (!x->future)
        return DEVICE_OK;
    for (uint32_t d = 0; d < x->s.n_dims; d++) {
        uint32_t half = x->s.k_dims[d] / 16 * 8;
        for (uint32_t i = 0; i < half; i++) {
            double turn = pow(10000, -(double)i / half), cosine = 0, sine = 0;
            for (uint32_t p = 0; p < FUTURE; p++) {
                cosine += cos((x->s.set.prompt + (double)p) * turn);
                sine += sin((x->s.set.prompt + (double)p) * turn);
            }
            *at++ = (float)(cosine / FUTURE);
            *at++ = (float)(sine / FUTURE);
        }
    }
    return device_upload(x->d, x->future, turns, 4 * words);
}
