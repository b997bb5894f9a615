/* Running a decoder: prompts one after the other through slices of layers, decode steps of all
 * sequences together. */
#include <string.h>

#include "kernels/copy.h"
#include "kernels/layer.h"
#include "validate/decoder_in.h"

enum { COPY_BLOCKS = 256 };

/* Logits of the last row of each sequence, and the tokens they ask for. */
static enum device_status sample(struct decoder *x, const struct decoder_pass *w)
{
    uint32_t rows = w->sequences;
    float *logits = x->logits + (uint64_t)w->sequence * x->s.logits_stride;
    uint32_t step = w->prefill ? 0 : x->decoded + 1;
    struct argmax_args m = {.logits = logits,
                            .out =
                                x->chosen + (uint64_t)step * x->s.set.sequences + w->sequence,
                            .rows = rows,
                            .width = x->s.tokens,
                            .stride = x->s.logits_stride};
    enum device_status s = decoder_norm(x, decoder_norm_before(x, x->s.n_layers, 0),
                                        w->prefill ? w->rows - 1 : 0, rows);

    decoder_tell(x, OP_ELEMENTWISE, x->s.n_layers, w->prefill);
    if (s == DEVICE_OK)
        s = decoder_logits_of(x, w, logits);
    if (s == DEVICE_OK)
        s = argmax_run(x->d, &m);
    decoder_tell(x, OP_HEAD, x->s.n_layers, w->prefill);
    return s;
}

static enum device_status copy_stream(struct decoder *x, bool save, uint32_t rows)
{
    struct copy_args a = {.from = save ? x->h : x->h_saved,
                          .to = save ? x->h_saved : x->h,
                          .from_tag = TAG_ACTIVATION,
                          .to_tag = TAG_ACTIVATION,
                          .bytes = 2 * (uint64_t)rows * x->s.hidden,
                          .blocks = COPY_BLOCKS};
    enum device_status s = copy_run(x->d, &a);

    a.from = save ? x->y : x->y_saved;
    a.to = save ? x->y_saved : x->y;
    return s == DEVICE_OK && x->pending ? copy_run(x->d, &a) : s;
}

/* A slice that reads upward runs several times from the same input. source: arXiv:2405.10637v2
 * sec 2.3, whyNLP/LCKV models/utils.py */
static enum device_status run_slice(struct decoder *x, struct decoder_pass *w, uint32_t first,
                                    uint32_t end)
{
    uint32_t passes = w->prefill ? x->s.layers[first].passes : 1;
    bool pending = x->pending;
    enum device_status s = DEVICE_OK;

    if (passes > 1)
        s = copy_stream(x, true, w->rows);
    for (uint32_t p = 0; p < passes && s == DEVICE_OK; p++) {
        w->first = p == 0;
        w->last = p + 1 == passes;
        x->pending = pending;
        if (p)
            s = copy_stream(x, false, w->rows);
        for (uint32_t i = first; i < end && s == DEVICE_OK; i++)
            s = decoder_layer(x, w, i);
    }
    return s;
}

/* Brings what layers before `end` were the last to read from scratch to where it stays. */
static enum device_status place_scratch(struct decoder *x, const struct decoder_pass *w,
                                        uint32_t end)
{
    enum device_status s = DEVICE_OK;

    for (uint32_t k = 0; w->prefill && k < x->s.n_stores && s == DEVICE_OK; k++) {
        const struct shape_store *t = &x->s.stores[k];
        if (!t->scratch || t->scratch_last + 1 != end)
            continue;
        s = decoder_place_prompt(x, k, w->sequence);
        decoder_tell(x, OP_SCHEME, t->layer, true);
    }
    return s;
}

static enum device_status run_layers(struct decoder *x, struct decoder_pass *w)
{
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; i < x->s.n_layers && s == DEVICE_OK;) {
        uint32_t end = x->s.problem->layout.slice_ends[i];
        if (w->prefill && i == x->s.exit_layer)
            s = decoder_leave(x, w, i);
        if (s == DEVICE_OK)
            s = run_slice(x, w, i, end);
        if (s == DEVICE_OK)
            s = place_scratch(x, w, end);
        w->stored = false;
        i = end;
    }
    return s;
}

/* Stores that keep the prompt whole until its end. */
static enum device_status finish_prompt(struct decoder *x, uint32_t sequence)
{
    enum device_status s = DEVICE_OK;

    for (uint32_t k = 0; k < x->s.n_stores && s == DEVICE_OK; k++) {
        const struct shape_store *t = &x->s.stores[k];
        if (t->scratch && !t->late)
            continue;
        s = decoder_prune_prompt(x, k, sequence);
        decoder_tell(x, OP_SCHEME, t->layer, true);
    }
    return s;
}

static enum device_status prefill_one(struct decoder *x, uint32_t sequence)
{
    const struct decoder_setting *set = &x->s.set;
    struct decoder_pass w = {.prefill = true, .sequence = sequence, .sequences = 1};
    enum device_status s = decoder_clear_states(x, sequence);

    for (; w.offset < set->prompt && s == DEVICE_OK; w.offset += w.rows) {
        const uint32_t *tokens = x->prompts + (uint64_t)sequence * set->prompt + w.offset;
        uint32_t left = set->prompt - w.offset;
        w.rows = x->s.chunk < left ? x->s.chunk : left;
        s = decoder_step_prefill(x, &w);
        if (s == DEVICE_OK)
            s = decoder_embed(x, tokens, w.rows, true);
        if (s == DEVICE_OK)
            s = run_layers(x, &w);
    }
    if (s == DEVICE_OK)
        s = sample(x, &w);
    return s == DEVICE_OK ? finish_prompt(x, sequence) : s;
}

enum device_status decoder_prefill(struct decoder *x)
{
    enum device_status s = DEVICE_OK;

    x->filled = false;
    x->decoded = 0;
    for (uint32_t k = 0; k < x->s.n_stores; k++)
        x->stores[k].replaced = 0;
    for (uint32_t i = 0; i < x->s.set.sequences && s == DEVICE_OK; i++)
        s = prefill_one(x, i);
    if (s == DEVICE_OK)
        s = device_sync(x->d);
    x->filled = s == DEVICE_OK;
    return s;
}

static enum device_status step(struct decoder *x)
{
    uint32_t n = x->s.set.sequences;
    struct decoder_pass w = {.sequences = n, .rows = n, .first = true, .last = true};
    enum device_status s = decoder_step_decode(x);

    if (s == DEVICE_OK)
        s = decoder_embed(x, x->chosen + (uint64_t)x->decoded * n, n, false);
    if (s == DEVICE_OK)
        s = run_layers(x, &w);
    if (s == DEVICE_OK)
        s = sample(x, &w);
    for (uint32_t k = 0; k < x->s.n_stores && s == DEVICE_OK; k++) {
        s = decoder_drop_step(x, k);
        decoder_tell(x, OP_SCHEME, x->s.stores[k].layer, false);
    }
    x->decoded++;
    return s;
}

enum device_status decoder_decode(struct decoder *x, uint32_t steps)
{
    enum device_status s = DEVICE_OK;

    if (!x->filled || steps > x->s.set.output - x->decoded)
        return device_refuse(x->d, DEVICE_BAD_ARGUMENT,
                             x->filled ? "decode: no room for %u more tokens"
                                       : "decode: no prompts yet, %u tokens asked",
                             steps);
    for (uint32_t i = 0; i < steps && s == DEVICE_OK; i++)
        s = step(x);
    if (s == DEVICE_OK)
        s = device_sync(x->d);
    x->filled = s == DEVICE_OK;
    return s;
}

/* --- for tests ------------------------------------------------------------------------------
 */

uint32_t decoder_stored_rows(struct decoder *x, uint32_t row)
{
    for (uint32_t k = 0; k < x->s.n_stores; k++)
        if (x->s.stores[k].number == row)
            return shape_stored(&x->s, &x->s.stores[k], x->decoded);
    return 0;
}

enum device_status decoder_preferences(struct decoder *x, uint32_t row, float *out)
{
    const float *at = NULL;

    for (uint32_t k = 0; k < x->s.n_stores; k++)
        if (x->s.stores[k].number == row)
            at = x->stores[k].preferences;
    if (!at)
        return device_refuse(x->d, DEVICE_BAD_ARGUMENT, "row %u has no preference", row);
    return device_download(x->d, out, at, 4 * (uint64_t)x->s.set.sequences);
}

bool decoder_kept(struct decoder *x, uint32_t list, struct decoder_kept *k)
{
    const struct decoder_cut *c = &x->cut;
    uint64_t at = (uint64_t)list * x->s.places;
    uint32_t heads = x->s.stores[c->store].view.heads;

    if (list >= c->lists ||
        device_download(x->d, &k->n, x->keep + list, sizeof k->n) != DEVICE_OK ||
        device_download(x->d, k->rows, x->order + at, 4 * (uint64_t)k->n) != DEVICE_OK)
        return false;
    k->sequence = c->sequence + list / heads;
    k->head = list % heads;
    k->from = c->from;
    k->of = c->of;
    k->scored = c->scores;
    k->smallest = c->smallest;
    return !c->scores ||
           device_download(x->d, k->scores, c->scores + at, 4 * (uint64_t)c->of) == DEVICE_OK;
}

enum device_status decoder_logits(struct decoder *x, float *out)
{
    uint64_t width = x->s.vocab;
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; i < x->s.set.sequences && s == DEVICE_OK; i++)
        s = device_download(x->d, out + i * width, x->logits + (uint64_t)i * x->s.logits_stride,
                            4 * width);
    return s;
}

enum device_status decoder_tokens(struct decoder *x, uint32_t *out, uint32_t *n)
{
    const struct decoder_setting *set = &x->s.set;
    uint32_t width = set->prompt + set->output + 1, known = x->decoded + 1;
    struct arena *a = arena_new();
    uint32_t *chosen = ARENA_NEW(a, uint32_t, (size_t)set->sequences * known);
    enum device_status s =
        device_download(x->d, chosen, x->chosen, 4 * (uint64_t)set->sequences * known);

    for (uint32_t i = 0; i < set->sequences && s == DEVICE_OK; i++) {
        uint32_t *row = out + (size_t)i * width;
        s = device_download(x->d, row, x->prompts + (size_t)i * set->prompt,
                            4 * (uint64_t)set->prompt);
        for (uint32_t k = 0; k < known; k++)
            row[set->prompt + k] = chosen[(size_t)k * set->sequences + i];
    }
    arena_free(a);
    *n = set->prompt + known;
    return s;
}
