/* What the decoder cannot run, each with its reason. Everything else it can. */
#include <string.h>

#include "validate/paged.h"
#include "validate/shape_in.h"

/* --- schemes --------------------------------------------------------------------------------
 */

const struct scheme_use *shape_retention(const struct problem *p)
{
    for (uint32_t i = 0; i < p->n_uses; i++)
        if (p->uses[i].scheme && p->uses[i].scheme->axis == AXIS_RETENTION)
            return &p->uses[i];
    return NULL;
}

static const struct field *field_of(const struct scheme_use *u, const char *key)
{
    for (size_t i = 0; u && i < u->scheme->nfields; i++)
        if (!strcmp(u->scheme->fields[i].key, key))
            return &u->scheme->fields[i];
    return NULL;
}

uint64_t shape_param(const struct scheme_use *u, const char *key)
{
    const struct field *f = field_of(u, key);
    uint64_t v = 0;

    if (f && (f->type == F_U64 || f->type == F_TOKENS || f->type == F_CHOICE))
        memcpy(&v, (const char *)u->params + f->offset, sizeof v);
    return v;
}

double shape_ratio_param(const struct scheme_use *u, const char *key)
{
    const struct field *f = field_of(u, key);
    double v = 0;

    if (f && f->type == F_NUMBER)
        memcpy(&v, (const char *)u->params + f->offset, sizeof v);
    return v;
}

bool shape_rule(const struct scheme_use *u, enum shape_rule *out)
{
    static const struct {
        const char *name;
        enum shape_rule rule;
    } rules[] = {
        {"l2norm", RULE_NORM}, {"snapkv", RULE_WINDOW}, {"pyramidkv", RULE_WINDOW},
        {"h2o", RULE_ALL},     {"tova", RULE_LAST},     {"streamingllm", RULE_ENDS},
        {"adakv", RULE_HEADS},
    };

    *out = RULE_NONE;
    if (!u)
        return true;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(u->name, rules[i].name))
            *out = rules[i].rule;
    return *out != RULE_NONE && !(*out == RULE_ALL && shape_param(u, "mode"));
}

struct cache_row shape_row(const struct problem *p, uint32_t row)
{
    struct cache_row r = p->layout.rows[row];
    uint32_t tp = p->parallel.tp;
    bool expanded = r.stored_heads != r.kv_heads;

    r.q_heads = shard_heads(r.q_heads, tp);
    r.kv_heads = shard_kv_heads(r.kv_heads, tp);
    r.stored_heads = expanded ? shard_heads(r.stored_heads, tp) : r.kv_heads;
    return r;
}

/* --- the model ------------------------------------------------------------------------------
 */

static const char *refuse_attention(const struct attention *a)
{
    switch (a->mixer) {
    case MIXER_NONE: return NULL;
    case MIXER_FULL:
    case MIXER_SLIDING: break;
    case MIXER_CHUNKED: return "no kernel attends in chunks (Llama 4)";
    case MIXER_LATENT: return "no kernel reads latents (MLA)";
    }
    if (a->output_gate || a->head_gate)
        return "no kernel gates the output of attention";
    if (a->sinks)
        return "no kernel has learned sinks (gpt-oss)";
    if (a->k_eq_v)
        return "K and V of one projection are not run";
    if (a->k_dim < 16 || a->heads % a->kv_heads)
        return "heads of at least 16 elements, query heads a multiple of K/V heads";
    return NULL;
}

static const char *refuse_layer(const struct layer *l)
{
    const struct ffn *f = &l->ffn;
    const char *bad = refuse_attention(&l->attn);

    if (bad)
        return bad;
    if (l->state.kind != STATE_NONE)
        return "no kernel runs recurrent mixers";
    if (f->experts && f->intermediate)
        return "a dense MLP beside experts is not run";
    if (f->experts && (f->moe_latent || f->router_extra_params || f->expert_bias ||
                       f->router_bias || f->top_k > f->experts))
        return "experts with biases, a latent or extra router weights are not run";
    if (l->norms != 2 && l->norms != 4)
        return "blocks have 2 or 4 norms";
    if (l->vector_params || l->matrix_params)
        return "the model has weights in its layers that no kernel uses";
    if (f->intermediate % 8 || f->moe_intermediate % 8 || f->shared_intermediate % 8)
        return "MLPs have a multiple of 8 channels";
    return NULL;
}

static const char *refuse_model(const struct model *m, const struct layout *l)
{
    const struct ffn *experts = NULL;
    uint32_t k_dim = 0;

    if (m->norm != NORM_RMS || m->final_norms != 1)
        return "no kernel has other norms than RMS";
    if (m->hidden % 8 || m->vocab % 4 || m->vocab > 1u << 24)
        return "hidden a multiple of 8, the vocabulary of 4 and at most 2^24";
    if (m->position_rows || m->embed_width || m->embed_params_extra)
        return "no kernel adds learned positions or other embeddings";
    if (m->matrix_params_extra || m->vector_params_extra || m->head_bias)
        return "the model has weights outside of its layers that no kernel uses";
    if (m->vision_params)
        return "vision and audio towers are not run";
    for (uint32_t i = 0; i < l->n_layers; i++) {
        const char *bad = refuse_layer(&l->layers[i]);
        const struct ffn *f = &l->layers[i].ffn;
        const struct attention *a = &l->layers[i].attn;
        if (!bad && f->experts && experts &&
            (experts->experts != f->experts || experts->top_k != f->top_k))
            bad = "layers with other numbers of experts are not run";
        if (!bad && a->mixer != MIXER_NONE && k_dim && a->k_dim != k_dim)
            bad = "layers with other head sizes are not run";
        if (bad)
            return bad;
        experts = f->experts ? f : experts;
        k_dim = a->mixer != MIXER_NONE ? a->k_dim : k_dim;
    }
    return NULL;
}

static const char *refuse_weights(struct arena *a, const struct problem *p)
{
    const struct model *m = p->layout.model;
    struct tensor t[LAYER_TENSORS_MAX];
    struct shape_tensor x;

    for (uint32_t i = 0; i <= p->layout.n_layers; i++) {
        int layer = i == p->layout.n_layers ? -1 : (int)i;
        struct layer mine =
            shape_rank_layer(&p->layout.layers[layer < 0 ? 0 : i], p->parallel.tp);
        size_t n = layer < 0 ? weights_outside(m, t)
                             : weights_layer(m, &mine, layout_owns_kv(&p->layout, i), t);
        for (size_t k = 0; k < n; k++) {
            const struct weight_format *f =
                weights_format_of(m, &t[k], layer, p->weight_format);
            const char *bad = shape_stores(a, &t[k], f, &x);
            if (bad)
                return bad;
        }
    }
    return NULL;
}

/* --- the layout -----------------------------------------------------------------------------
 */

static const char *refuse_store(const struct problem *p, const struct cache_row *r)
{
    const struct scheme_use *u = shape_retention(p);
    enum shape_rule rule = RULE_NONE;
    bool known = shape_rule(u, &rule);

    if (!r->keep.prompt)
        return NULL;
    if (!known)
        return "no kernels run this retention scheme";
    if (r->store_window_tokens)
        return "a retention rule on top of a sliding window is not run";
    return NULL;
}

static const char *refuse_reader(const struct problem *p, const struct cache_row *r)
{
    const struct cache_row *source = &p->layout.rows[r->source];
    uint64_t ring = source->store_window_tokens;
    enum shape_rule rule = RULE_NONE;

    (void)shape_rule(shape_retention(p), &rule);
    if (r->select_tokens)
        return "no decoder reads a selection of pages";
    if (ring && r->diagonal_masked && source->layer < r->layer)
        return "a window below under a masked diagonal is not run";
    if (ring && r->window_tokens != ring)
        return "layers with other windows than their source's are not run";
    if (!ring && r->window_tokens && source->keep.prompt)
        return "a window over a cache that a rule has pruned is not run";
    if (r->diagonal_masked && source->keep.decode && rule != RULE_ENDS)
        return "a cache that drops rows in decode under a masked diagonal is not run";
    return NULL;
}

static const char *refuse_rows(const struct problem *p)
{
    const struct layout *l = &p->layout;
    bool fp16 = false, other = false;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        struct cache_row r = shape_row(p, i);
        const char *bad = r.readers ? paged_refuses(&r) : NULL;
        if (!bad && i && l->rows[i - 1].layer == r.layer)
            bad = "layers with several groups of heads are not run";
        if (!bad && r.readers)
            bad = refuse_store(p, &l->rows[i]);
        if (!bad)
            bad = refuse_reader(p, &l->rows[i]);
        if (bad)
            return bad;
        if (r.readers) {
            bool half = !strcmp(r.k_format.name, "fp16") || !strcmp(r.k_format.name, "f16");
            fp16 |= half;
            other |= !half;
        }
    }
    return fp16 && other ? "fp16 is for the cache as a whole" : NULL;
}

const char *shape_refuses(struct arena *a, const struct problem *p)
{
    const struct parallel *x = &p->parallel;
    const char *bad = NULL;

    if (x->pp > 1 || x->cp > 1 || x->ep > 1)
        bad = "one rank of tensor parallelism is run, no pipeline, context or expert split";
    else if (p->host_layers || p->offload > 0)
        bad = "nothing is offloaded to host memory here";
    if (!bad)
        bad = refuse_model(p->layout.model, &p->layout);
    if (!bad)
        bad = refuse_rows(p);
    return bad ? bad : refuse_weights(a, p);
}
