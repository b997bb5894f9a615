/* What the decoder cannot run, each with its reason. Everything else it can. */
#include <string.h>

#include "kernels/index.h"
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
        {"l2norm", RULE_NORM},
        {"knorm", RULE_NORM},
        {"decoding-press", RULE_NORM},
        {"snapkv", RULE_WINDOW},
        {"pyramidkv", RULE_WINDOW},
        {"adakv", RULE_HEADS},
        {"headkv", RULE_GIVEN},
        {"h2o", RULE_ALL},
        {"observed-attention", RULE_MEAN},
        {"keydiff", RULE_ANGLE},
        {"chunkkv", RULE_CHUNKS},
        {"expected-attention", RULE_EXPECT},
        {"cake", RULE_SHIFT},
        {"tova", RULE_LAST},
        {"streamingllm", RULE_ENDS},
        {"duoattention", RULE_ENDS},
    };

    *out = RULE_NONE;
    if (!u)
        return true;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(u->name, rules[i].name))
            *out = rules[i].rule;
    return *out != RULE_NONE;
}

static bool keeps_recent(const struct scheme_use *u)
{
    return shape_param(u, "recent") || shape_ratio_param(u, "recent_ratio") > 0 ||
           shape_param(u, "mode");
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

/* Prompts attend over expanded heads, steps over latents. */
static const char *refuse_latent(const struct attention *a)
{
    if (a->index_dim &&
        (a->index_heads % 8 || a->index_heads > INDEX_HEADS_MAX || a->index_dim % 32 ||
         a->index_dim > INDEX_DIM_MAX || a->rope_dim > a->index_dim))
        return "an indexer has a multiple of 8 heads, of a multiple of 32 elements, up to 128";
    if (a->nope_dim % 8 || a->v_dim % 8 || !a->nope_dim || !a->v_dim || a->q_lora_rank % 8)
        return "MLA: heads and the query's rank of a multiple of 8 elements";
    if (a->rope_dim % 16 || a->k_dim > CACHE_DIM_MAX || a->v_dim > CACHE_DIM_MAX)
        return "MLA: a rope part of a multiple of 16 elements, heads of at most 256";
    return NULL;
}

static const char *refuse_attention(const struct attention *a)
{
    switch (a->mixer) {
    case MIXER_NONE: return NULL;
    case MIXER_FULL:
    case MIXER_SLIDING:
    case MIXER_CHUNKED: break;
    case MIXER_LATENT: return refuse_latent(a);
    }
    if ((a->output_gate || a->k_eq_v) && a->k_dim != a->v_dim)
        return "gates and shared projections are for K and V of one width";
    if (a->output_gate && a->head_gate)
        return "attention has one gate";
    if (a->k_dim < 16 || a->heads % a->kv_heads)
        return "heads of at least 16 elements, query heads a multiple of K/V heads";
    return NULL;
}

static const char *refuse_ffn(const struct model *m, const struct ffn *f, uint32_t tp)
{
    const uint32_t widths[] = {f->intermediate, f->moe_intermediate, f->shared_intermediate};

    if (f->experts && f->router_extra_params &&
        (f->router_bias || f->router_extra_params != (uint64_t)m->hidden + f->experts))
        return "routers have a bias, or scales of the stream and of each expert";
    if (f->experts && f->top_k > f->experts)
        return "a token takes more experts than there are";
    if (f->moe_latent && f->intermediate)
        return "an MLP beside experts with a latent is not run";
    if (f->moe_latent % 8)
        return "latents have a multiple of 8 elements";
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (ck_ceil_div(widths[i], tp) % 8)
            return "MLPs have a multiple of 8 channels on each rank";
    return NULL;
}

/* Attention or a recurrent mixer. */
static bool mixes(const struct layer *l)
{
    return l->attn.mixer != MIXER_NONE || l->state.kind != STATE_NONE;
}

static bool whole(const struct layer *l)
{
    return mixes(l) && (l->ffn.intermediate || l->ffn.experts);
}

/* Below a unit of gated memory there is a Mamba layer of its width. */
static const char *refuse_state(const struct problem *p, uint32_t i)
{
    const struct layout *l = &p->layout;
    const struct state *s = &l->layers[i].state;
    struct state part;
    uint32_t k = i;

    if (s->kind == STATE_NONE)
        return NULL;
    if (!mixer_on_rank(s, p->parallel.tp, &part))
        return "recurrent mixers whose heads or groups no rank has whole are not run";
    if (l->passes[i] > 1)
        return "recurrent mixers in a slice of layers that runs several times are not run";
    if (s->kind != STATE_GMU)
        return mixer_refuses(&part, l->model->hidden);
    while (k > 0 && l->layers[k - 1].state.kind != STATE_MAMBA1 &&
           l->layers[k - 1].state.kind != STATE_MAMBA2)
        k--;
    if (!k || l->layers[k - 1].state.inner != s->inner || part.inner % 8)
        return "a unit of gated memory has no Mamba-1 layer of its width below";
    return NULL;
}

static const char *refuse_layer(const struct model *m, const struct layer *l, uint32_t tp)
{
    struct shape_norms norms;
    const char *bad = refuse_attention(&l->attn);

    if (bad)
        return bad;
    if (!shape_norms(l->norms, &norms))
        return "no rule says where so many norms of a block stand";
    if (!whole(l) && l->norms > 1)
        return "layers without a mixer or without an MLP have 1 norm";
    if (l->norms == 1 && mixes(l) && l->ffn.experts &&
        (l->ffn.intermediate || l->ffn.moe_latent))
        return "blocks of one norm have an MLP or experts of the hidden size";
    if (norms.input != SHAPE_NONE && !m->embed_params_extra)
        return "no rule says where so many norms of a block stand";
    if (l->matrix_params % m->hidden ||
        (l->vector_params > 1 &&
         (l->vector_params % 8 || l->vector_params > l->matrix_params / m->hidden)))
        return "the model has weights in its layers that no kernel uses";
    return refuse_ffn(m, &l->ffn, tp);
}

/* Without a norm at the end norms stand after the halves of a block, or are not in it either.
 */
static const char *refuse_norms(const struct model *m, const struct layout *l)
{
    uint64_t one = m->norm == NORM_LAYER ? 2 * (uint64_t)m->hidden : m->hidden;

    if (m->final_norms > 1)
        return "one norm at the end";
    if (m->vector_params_extra && m->vector_params_extra != one && !m->embed_params_extra)
        return "the model has weights outside of its layers that no kernel uses";
    for (uint32_t i = 0; i < l->n_layers && !m->final_norms; i++) {
        const struct layer *x = &l->layers[i];
        if (x->norms && (x->norms != 2 || !whole(x) || x->norms != l->layers[0].norms))
            return "without a norm at the end, blocks have two norms or none";
    }
    return NULL;
}

static const char *refuse_alike(const struct layout *l)
{
    const struct ffn *experts = NULL;
    uint32_t topk = 0;
    bool latents = false, indexed = false;
    uint32_t dims[SHAPE_DIMS_MAX] = {0}, n = 0;

    for (uint32_t i = 0; i < l->n_layers; i++) {
        const struct ffn *f = &l->layers[i].ffn;
        const struct attention *a = &l->layers[i].attn;
        uint32_t k = 0;
        if (f->experts && experts &&
            (experts->experts != f->experts || experts->top_k != f->top_k))
            return "layers with other numbers of experts are not run";
        experts = f->experts ? f : experts;
        if (a->mixer != MIXER_NONE && n && latents != (a->mixer == MIXER_LATENT))
            return "layers with latents beside others without are not run";
        latents |= a->mixer == MIXER_LATENT;
        indexed |= a->index_dim && !a->index_shared;
        if (a->index_shared && !indexed)
            return "a selection is shared, but no layer below has made it";
        if (a->index_topk && topk && a->index_topk != topk)
            return "layers with other sizes of a selection are not run";
        topk = a->index_topk ? a->index_topk : topk;
        while (k < n && dims[k] != a->k_dim)
            k++;
        if (a->mixer == MIXER_NONE || k < n)
            continue;
        if (n == SHAPE_DIMS_MAX)
            return "heads of more than four sizes are not run";
        dims[n++] = a->k_dim;
    }
    return NULL;
}

/* Tables, the norm and the two projections of embeddings that each layer has for itself. */
static const char *refuse_inputs(const struct model *m, const struct layout *l)
{
    uint64_t width = m->vector_params_extra;
    bool good = shape_input_rows(m) && width % 16 == 0 && width <= m->hidden &&
                m->matrix_params_extra / m->hidden >= width * l->n_layers;

    for (uint32_t i = 0; i < l->n_layers && good; i++) {
        struct shape_norms n = {.input = SHAPE_NONE};
        uint64_t rows = l->layers[i].matrix_params / m->hidden;
        good =
            shape_norms(l->layers[i].norms, &n) && n.input != SHAPE_NONE && rows >= 2 * width &&
            (l->layers[i].vector_params <= 1 || l->layers[i].vector_params <= rows - 2 * width);
    }
    return good ? NULL : "embeddings of every layer have a norm and projections of one width";
}

static const char *refuse_model(const struct problem *p)
{
    const struct layout *l = &p->layout;
    const struct model *m = l->model;
    const char *bad = NULL;

    if (m->hidden % 8 || m->embed_width % 8 || m->vocab > 1u << 24)
        return "hidden a multiple of 8, the vocabulary at most 2^24";
    if (m->embed_params_extra)
        bad = refuse_inputs(m, l);
    if (bad)
        return bad;
    if (m->matrix_params_extra % m->hidden)
        return "the model has weights outside of its layers that no kernel uses";
    for (uint32_t i = 0; i < l->n_layers && !bad; i++) {
        bad = refuse_layer(m, &l->layers[i], p->parallel.tp);
        bad = bad ? bad : refuse_state(p, i);
    }
    if (!bad)
        bad = refuse_norms(m, l);
    return bad ? bad : refuse_alike(l);
}

/* Parts that are multiplied apart begin where a tile of blocks of scales does: the latent and
 * its rope part, and the halves of every head, are those of MLA; queries and their gate. */
static const char *refuse_parts(struct arena *a, const struct shape_tensor *x,
                                const struct attention *t)
{
    const char *name = x->t.name;
    uint64_t at = 0;

    if (!x->stored || x->view.kind != WEIGHT_FP8_BLOCK)
        return NULL;
    if (!strcmp(name, "self_attn.kv_b_proj"))
        at = t->nope_dim | t->v_dim;
    else if (!strcmp(name, "self_attn.q_proj") && t->output_gate)
        at = (uint64_t)t->heads * t->k_dim;
    return at % 16 == 0 ? NULL
                        : arena_printf(a, "parts of %s in %s: a multiple of 16 rows", name,
                                       x->format->name);
}

/* Vectors that are added in 16 bits only; `layer`: NULL outside of them. */
static const char *refuse_tensor(struct arena *a, const struct shape_tensor *x,
                                 const struct layer *layer)
{
    const char *name = x->t.name;
    static const char *const narrow[] = {"self_attn.sinks", "mlp.gate.bias", "mlp.gate.scales",
                                         "lm_head.bias", "scalars"};

    for (size_t i = 0; x->wide && i < sizeof narrow / sizeof *narrow; i++)
        if (!strcmp(name, narrow[i]))
            return arena_printf(a, "%s in fp32: no kernel reads it", name);
    if (x->wide && x->t.vector && x->t.part == PART_STATE)
        return "the vectors of recurrent mixers are read in 16 bits, these are in fp32";
    return layer ? refuse_parts(a, x, &layer->attn) : NULL;
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
            if (!bad)
                bad = refuse_tensor(a, &x, layer < 0 ? NULL : &mine);
            if (bad)
                return bad;
        }
    }
    return NULL;
}

/* --- the layout -----------------------------------------------------------------------------
 */

/* A window lets rows go by age, one a step. */
static const char *refuse_window(const struct scheme_use *u, const struct cache_row *r,
                                 enum shape_rule rule)
{
    bool cut = r->keep.prompt || r->keep.decode;

    if (r->k_format.residual != RESIDUAL_NONE)
        return "no kernel keeps a window of KIVI";
    if (r->keep.ragged)
        return "heads that keep different numbers of rows of a sliding window are not run";
    if (r->keep.decode && rule == RULE_NORM)
        return "a rule that cuts now and then, on top of a sliding window, is not run";
    if (u && !cut && !strcmp(u->name, "quest"))
        return "pages of a sliding window are not picked";
    return NULL;
}

static const char *refuse_store(const struct problem *p, const struct cache_row *r)
{
    const struct scheme_use *u = shape_retention(p);
    const struct model *m = p->layout.model;
    enum shape_rule rule = RULE_NONE;
    bool known = shape_rule(u, &rule), kivi = r->k_format.residual != RESIDUAL_NONE;

    if (m->alibi && (r->store_window_tokens || (r->keep.decode && rule != RULE_NORM)))
        return "slopes along rows that do not stand in the order of their tokens are not run";
    if ((r->keep.prompt || r->keep.decode) && !known)
        return "no kernels run this retention scheme";
    if (r->stream == STREAM_LATENT && (r->keep.prompt || r->keep.decode))
        return "no kernel drops latents";
    if (r->store_window_tokens)
        return refuse_window(u, r, rule);
    if (kivi && u && !strcmp(u->name, "quest"))
        return "pages of KIVI cannot be picked, its groups of tokens share scales";
    return NULL;
}

static const char *refuse_reader(const struct problem *p, const struct cache_row *r)
{
    const struct cache_row *source = &p->layout.rows[r->source];
    const struct scheme_use *u = shape_retention(p);
    uint64_t ring = source->store_window_tokens;
    enum shape_rule rule = RULE_NONE;

    if (r->select_tokens && !r->select_page_tokens && r->stream != STREAM_LATENT)
        return "no decoder reads a selection of tokens";
    if (r->select_tokens && r->diagonal_masked && r->stream == STREAM_LATENT)
        return "a selection under a masked diagonal is not run";
    if (r->select_tokens && p->layout.model->alibi)
        return "slopes along pages that were picked are not run";
    if (r->mixer == MIXER_CHUNKED && (source->keep.prompt || source->keep.decode))
        return "a retention rule on top of attention in chunks is not run";
    if (ring && r->diagonal_masked && source->layer < r->layer)
        return "a window under a masked diagonal needs a row more than its tokens";
    if (ring && (r->window_tokens != ring || r->mixer != source->mixer))
        return "layers with other windows than their source's are not run";
    if (!ring && r->window_tokens && source->keep.decode)
        return "a window over rows that a rule has put out of order is not run";
    (void)shape_rule(u, &rule);
    if (r->diagonal_masked && source->keep.decode &&
        (rule == RULE_LAST || (rule == RULE_ALL && !keeps_recent(u))))
        return "a rule that ranks the newest row, which a masked diagonal hides, is not run";
    return NULL;
}

/* Tensor parallelism divides the heads of a layer, not those of its groups. */
static const char *refuse_groups(const struct problem *p, uint32_t i)
{
    const struct layout *l = &p->layout;
    const struct cache_row *r = &l->rows[i];
    uint32_t kv = 0, q = 0;

    for (uint32_t k = i - r->group;
         k < l->n_rows && l->rows[k].layer == r->layer && l->rows[k].stream == r->stream; k++) {
        struct cache_row rank = shape_row(p, k);
        kv += rank.kv_heads;
        q += rank.q_heads;
    }
    if (kv != shard_kv_heads(l->layers[r->layer].attn.kv_heads, p->parallel.tp) ||
        q != shard_heads(l->layers[r->layer].attn.heads, p->parallel.tp))
        return "tensor parallelism does not divide these groups of heads";
    return NULL;
}

static const char *refuse_row(const struct problem *p, uint32_t i)
{
    struct cache_row r = shape_row(p, i);
    const char *bad = r.readers ? paged_refuses(&r) : NULL;

    if (!bad && r.group)
        bad = refuse_groups(p, i);
    if (!bad && r.readers)
        bad = refuse_store(p, &p->layout.rows[i]);
    return bad ? bad : refuse_reader(p, &p->layout.rows[i]);
}

static const char *refuse_rows(const struct problem *p)
{
    const struct layout *l = &p->layout;
    bool fp16 = false, other = false;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        const char *bad;
        if (r->stream == STREAM_STATE)
            continue;
        bad = refuse_row(p, i);
        if (bad)
            return bad;
        if (r->readers) {
            bool half = !strcmp(r->k_format.name, "fp16") || !strcmp(r->k_format.name, "f16");
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
        bad = refuse_model(p);
    if (!bad)
        bad = refuse_rows(p);
    return bad ? bad : refuse_weights(a, p);
}
