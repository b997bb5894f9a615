/* mlkv - Multi-Layer Key-Value heads: kv_layers layers own kv_heads heads each; the others
 * read the nearest owner below. The published models widen every MLP back to the original
 * parameter count (widen_mlp). */
#include "planner/cache/map.h"

struct params {
    uint64_t kv_layers, kv_heads;
    bool widen_mlp;
};

static const struct field fields[] = {
    FIELD_REQUIRED(struct params, kv_layers, "kv_layers", F_U64, 1, 4096,
                   "layers that own K/V (m)"),
    FIELD(struct params, kv_heads, "kv_heads", F_U64, 0, 65536, NULL,
          "K/V heads of each of them (g); the model's if not given"),
    FIELD(struct params, widen_mlp, "widen_mlp", F_BOOL, 0, 0, "false",
          "widen every MLP until the parameters are as many as with a K/V head a query head"),
};

static uint64_t divide_half_even(uint64_t a, uint64_t b)
{
    uint64_t q = a / b, r = a % b;

    if (r > b - r || (r == b - r && q % 2))
        q++;
    return q;
}

/* What every MLP gains. source: MLKV convert_to_mlkv.py: K/V parameters lost against one
 * head a query head, weights and biases, an even share a layer, in units of the hidden size;
 * two matrices take half each (a gated MLP's three a third: ours, the code has no gated
 * model). */
static uint64_t wider_by(const struct params *p, const struct layout *lay,
                         const struct attention_map *m, struct ck *ck)
{
    const struct layer *l = &lay->layers[m->layers[0]];
    uint64_t hidden = lay->model->hidden, heads = l->attn.heads, dim = l->attn.k_dim;
    uint64_t own = ck_mul(ck, p->kv_layers, l->attn.kv_heads);
    uint64_t lost = ck_sub(ck, ck_mul(ck, heads, m->n), own);
    uint64_t params =
        ck_mul(ck, lost, ck_add(ck, ck_prod(ck, 2, hidden, dim), ck_mul(ck, 2, dim)));

    return divide_half_even(params / m->n, hidden) / (l->ffn.gated ? 3 : 2);
}

static bool widen(const struct scheme_use *use, const struct attention_map *m,
                  struct layout *lay, struct diag *d)
{
    struct ck ck = {0};
    uint64_t more = wider_by(use->params, lay, m, &ck);
    bool ok = true;

    for (uint32_t i = 0; i < lay->n_layers; i++) {
        struct ffn *f = &lay->layers[i].ffn;
        if (!f->intermediate)
            ok = diag_add(d, DIAG_INPUT, use->at, "mlkv: layer %u has no dense MLP to widen",
                          i + 1);
        else if (ck.over || more > UINT32_MAX - f->intermediate)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "mlkv: the widened MLP of layer %u is too large", i + 1);
        else
            f->intermediate += (uint32_t)more;
    }
    return ok;
}

static bool set_heads(const struct scheme_use *use, const struct attention_map *m,
                      struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    bool ok = true;

    for (uint32_t k = 0; k < m->n; k++) {
        struct attention *a = &lay->layers[m->layers[k]].attn;
        a->kv_source = m->layers[k];
        if (a->mixer == MIXER_LATENT)
            ok =
                diag_add(d, DIAG_INPUT, use->at,
                         "mlkv: layer %u keeps a latent, which has no heads", m->layers[k] + 1);
        else if (p->kv_heads && (p->kv_heads > a->heads || a->heads % p->kv_heads))
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "mlkv: %llu K/V heads do not divide the %u heads of layer %u",
                          (unsigned long long)p->kv_heads, a->heads, m->layers[k] + 1);
        else if (p->kv_heads)
            a->kv_heads = (uint32_t)p->kv_heads;
    }
    return ok && layout_rebuild(lay, d);
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct attention_map m;

    if (!map_begin(use, lay, d, &m) || !map_check_layers(use, &m, p->kv_layers, d) ||
        !set_heads(use, &m, lay, d))
        return false;
    if (p->widen_mlp && !widen(use, &m, lay, d))
        return false;
    for (uint32_t k = 0, owner = 0, next = 1; k < m.n; k++) {
        if (next < p->kv_layers && k == map_spread(m.n, (uint32_t)p->kv_layers, next)) {
            owner = k;
            next++;
        }
        m.to[k] = owner;
    }
    return map_apply(use, &m, NULL, lay, d);
}

static const char *const names[] = {"mlkv", NULL};

const struct scheme scheme_mlkv = {
    .names = names,
    .summary = "multi-layer K/V heads: a few layers own a few heads, the rest read below",
    .source = "arXiv:2406.09297; zaydzuhri/pythia-mlkv@c2ad065",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
    .compare = "{kv_layers: 4, kv_heads: 1}",
};
