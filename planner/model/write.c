/* Writing a model in the inline form. The most frequent layer is the top level, the others are
 * kinds that say only where they differ; the sequence of kinds is folded into repeats. What
 * inline.c derives is not written. */
#include "planner/model/inline.h"

#include <inttypes.h>
#include <string.h>

#include "planner/model/inline_quant.h"

enum { NAME_BYTES = 48, PERIOD_LAYERS_MAX = 512 };

struct kind {
    struct raw_layer raw;
    uint32_t first, count;
    char name[NAME_BYTES];
};

struct writer {
    const struct model *m;
    FILE *out;
    struct kind *kinds; /* [n_layers] at most */
    uint32_t n_kinds;
    uint32_t *of;               /* [n_layers]: kind of each layer */
    uint32_t base;              /* index of the kind at the top level */
    struct raw_layer inherited; /* what a kind starts from when the top level is read back */
};

/* ---- scalars -------------------------------------------------------------------------- */

static bool is_plain(const char *s)
{
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";

    return *s && ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')) &&
           s[strspn(s, safe)] == 0;
}

static void write_text(const char *s, FILE *out)
{
    if (is_plain(s) && strcmp(s, "null") != 0 && strcmp(s, "true") != 0 &&
        strcmp(s, "false") != 0) {
        fputs(s, out);
        return;
    }
    fputc('"', out);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(out, "\\x%02x", (unsigned)*s);
        else
            fputc(*s, out);
    }
    fputc('"', out);
}

static void write_value(const struct slot *s, const void *base, FILE *out)
{
    uint64_t v = slot_get(s, base);

    if (s->field.type == F_CHOICE)
        fputs(s->field.choices[v], out);
    else if (s->field.type == F_BOOL)
        fputs(v ? "true" : "false", out);
    else
        fprintf(out, "%" PRIu64, v);
}

/* ---- kinds ---------------------------------------------------------------------------- */

static const char *mixer_word(const struct raw_layer *r)
{
    const char *state = state_kind_name(r->l.state.kind);

    return r->l.attn.mixer == MIXER_NONE && raw_has(r, SLOTS_SSM) ? state
                                                                  : mixer_name(r->l.attn.mixer);
}

static const char *ffn_word(const struct raw_layer *r)
{
    return raw_has(r, SLOTS_MOE) ? "moe" : r->l.ffn.intermediate ? "dense" : "bare";
}

/* By the mixer, by the feed-forward part, or by both, whichever tells the kinds apart; a number
 * where none does. */
static void name_kinds(struct writer *w)
{
    bool mixers = false, ffns = false;
    enum mixer taken;

    for (uint32_t i = 1; i < w->n_kinds; i++) {
        mixers |= strcmp(mixer_word(&w->kinds[i].raw), mixer_word(&w->kinds[0].raw)) != 0;
        ffns |= strcmp(ffn_word(&w->kinds[i].raw), ffn_word(&w->kinds[0].raw)) != 0;
    }
    for (uint32_t i = 0; i < w->n_kinds; i++) {
        struct kind *k = &w->kinds[i];
        uint32_t clashes = 0;
        char word[NAME_BYTES];
        bool lone = k->raw.l.attn.mixer == MIXER_NONE && !raw_has(&k->raw, SLOTS_SSM);

        if (lone || !mixers)
            snprintf(word, sizeof word, "%s", ffn_word(&k->raw));
        else if (!ffns || strcmp(ffn_word(&k->raw), "bare") == 0)
            snprintf(word, sizeof word, "%s", mixer_word(&k->raw));
        else
            snprintf(word, sizeof word, "%s-%s", mixer_word(&k->raw), ffn_word(&k->raw));
        for (uint32_t j = 0; j < i; j++) {
            size_t n = strlen(word);

            clashes += strncmp(w->kinds[j].name, word, n) == 0 &&
                       (w->kinds[j].name[n] == 0 || w->kinds[j].name[n] == '_');
        }
        /* the name of a mixer means that mixer: a second kind of it gets a number, from 2 on */
        if (clashes || (mixer_find(word, &taken) && taken != k->raw.l.attn.mixer))
            snprintf(k->name, sizeof k->name, "%.30s_%" PRIu32, word, clashes + 1);
        else
            snprintf(k->name, sizeof k->name, "%s", word);
    }
}

static void find_kinds(struct writer *w)
{
    struct kind top;

    for (uint32_t i = 0; i < w->m->n_layers; i++) {
        struct raw_layer raw = raw_of(&w->m->layers[i]);
        uint32_t k = 0;

        while (k < w->n_kinds && !raw_same(&w->kinds[k].raw, &raw))
            k++;
        if (k == w->n_kinds)
            w->kinds[w->n_kinds++] = (struct kind){.raw = raw, .first = i};
        w->kinds[k].count++;
        w->of[i] = k;
    }
    for (uint32_t k = 0; k < w->n_kinds; k++) {
        bool attends = w->kinds[k].raw.l.attn.mixer != MIXER_NONE;
        bool best = w->kinds[w->base].raw.l.attn.mixer != MIXER_NONE;

        /* a layer with attention says more at the top level than one without */
        if (attends > best || (attends == best && w->kinds[k].count > w->kinds[w->base].count))
            w->base = k;
    }
    /* the top level comes first, so that it gets the plain name */
    for (uint32_t i = 0; i < w->m->n_layers; i++)
        w->of[i] = w->of[i] == 0 ? w->base : w->of[i] == w->base ? 0 : w->of[i];
    top = w->kinds[w->base];
    w->kinds[w->base] = w->kinds[0];
    w->kinds[0] = top;
    w->base = 0;
    name_kinds(w);
}

/* ---- one layer ------------------------------------------------------------------------ */

struct part {
    FILE *out;
    const char *before; /* what goes before each key */
    const char *after;  /* and after each value */
    bool any;
};

static void write_key(struct part *p, const char *key)
{
    fprintf(p->out, "%s%s: ", p->any || *p->before == ' ' ? p->before : "", key);
    p->any = true;
}

/* Slots that have no meaning for the mixer, or follow from others. */
static bool applies(const struct slot *s, const struct raw_layer *r)
{
    const struct attention *a = &r->l.attn;
    bool attention = s->at < offsetof(struct raw_layer, l.state);

    if (s->at == offsetof(struct raw_layer, l.attn.mixer))
        return true;
    if (attention && a->mixer == MIXER_NONE)
        return false;
    if (s->at == offsetof(struct raw_layer, l.attn.window_tokens))
        return a->mixer == MIXER_SLIDING || a->mixer == MIXER_CHUNKED;
    if (a->mixer == MIXER_LATENT && (s->at == offsetof(struct raw_layer, l.attn.kv_heads) ||
                                     s->at == offsetof(struct raw_layer, l.attn.k_dim) ||
                                     s->at == offsetof(struct raw_layer, l.attn.v_dim)))
        return false;
    if (s->at == offsetof(struct raw_layer, l.ffn.gated))
        return r->l.ffn.intermediate || r->l.ffn.experts;
    if (s->at == offsetof(struct raw_layer, l.ffn.bias))
        return r->l.ffn.intermediate > 0;
    if (s->at == offsetof(struct raw_layer, l.ffn.intermediate))
        return !r->l.ffn.experts || r->beside_dense;
    return true;
}

static void write_group(struct part *p, const struct raw_layer *r, const struct raw_layer *base,
                        enum slot_group g)
{
    size_t n;
    const struct slot *s = slots_of(g, &n);
    struct part inner = {.out = p->out, .before = ", "};
    bool differs = false;

    for (size_t i = 0; i < n; i++)
        differs |= slot_get(&s[i], r) != slot_get(&s[i], base);
    if (!differs || (!raw_has(r, g) && !raw_has(base, g)))
        return;
    if (g == SLOTS_MLA && r->l.attn.mixer != MIXER_LATENT)
        return; /* another mixer drops the latent by itself */
    if (r->l.attn.mixer == MIXER_NONE && g == SLOTS_INDEXER)
        return;
    write_key(p, slots_key(g));
    if (!raw_has(r, g)) {
        fprintf(p->out, "none%s", p->after);
        return;
    }
    fputc('{', p->out);
    for (size_t i = 0; i < n; i++) {
        if (slot_get(&s[i], r) == slot_get(&s[i], base))
            continue;
        write_key(&inner, s[i].field.key);
        write_value(&s[i], r, p->out);
    }
    fprintf(p->out, "}%s", p->after);
}

/* Everything in which a layer differs from another. */
static void write_layer(struct part *p, const struct raw_layer *r, const struct raw_layer *base)
{
    size_t n;
    const struct slot *s = slots_of(SLOTS_LAYER, &n);
    char mine[5], theirs[5];

    for (size_t i = 0; i < n; i++) {
        if (slot_get(&s[i], r) == slot_get(&s[i], base) || !applies(&s[i], r))
            continue;
        write_key(p, s[i].field.key);
        write_value(&s[i], r, p->out);
        fputs(p->after, p->out);
    }
    if (r->l.attn.mixer != MIXER_NONE &&
        strcmp(bias_letters(&r->l.attn, mine), bias_letters(&base->l.attn, theirs)) != 0) {
        write_key(p, "attention_bias");
        fprintf(p->out, "%s%s", bias_letters(&r->l.attn, mine), p->after);
    }
    for (int g = SLOTS_MLA; g < N_SLOT_GROUPS; g++)
        write_group(p, r, base, (enum slot_group)g);
}

/* ---- the sequence of kinds ------------------------------------------------------------ */

static bool equal_runs(const uint32_t *v, uint32_t a, uint32_t b, uint32_t n)
{
    return memcmp(v + a, v + b, n * sizeof *v) == 0;
}

/* v[from, to) as names with counts. */
static void write_runs(const struct writer *w, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to;) {
        uint32_t n = 1;

        while (i + n < to && w->of[i + n] == w->of[i])
            n++;
        fprintf(w->out, "%s%s", i > from ? ", " : "", w->kinds[w->of[i]].name);
        if (n > 1)
            fprintf(w->out, "*%" PRIu32, n);
        i += n;
    }
}

/* The start, period and times of the repeat that covers most layers; false when none helps. */
static bool find_repeat(const struct writer *w, uint32_t *start, uint32_t *period,
                        uint32_t *times)
{
    uint32_t n = w->m->n_layers, best = 0;

    for (uint32_t p = 2; n <= PERIOD_LAYERS_MAX && p <= n / 2; p++) {
        for (uint32_t s = 0; s + 2 * p <= n; s++) {
            uint32_t k = 1;

            while (s + (k + 1) * p <= n && equal_runs(w->of, s, s + k * p, p))
                k++;
            if (k > 1 &&
                k * p >
                    best +
                        best /
                            8) { /* shorter periods first: only clearly better ones replace */
                best = k * p;
                *start = s;
                *period = p;
                *times = k;
            }
        }
    }
    return best >= n / 2;
}

static void write_types(const struct writer *w)
{
    uint32_t start = 0, period = 0, times = 0, n = w->m->n_layers, runs = 1;

    for (uint32_t i = 1; i < n; i++)
        runs += w->of[i] != w->of[i - 1];
    fputs("layer_types: [", w->out);
    if (runs > 3 && find_repeat(w, &start, &period, &times)) {
        write_runs(w, 0, start);
        fprintf(w->out, "%s{repeat: %" PRIu32 ", of: [", start ? ", " : "", times);
        write_runs(w, start, start + period);
        fputs("]}", w->out);
        if (start + period * times < n)
            fputs(", ", w->out);
        write_runs(w, start + period * times, n);
    } else {
        write_runs(w, 0, n);
    }
    fputs("]\n", w->out);
}

static void write_kinds(const struct writer *w)
{
    bool headed = false;

    if (w->n_kinds < 2)
        return;
    for (uint32_t k = 0; k < w->n_kinds; k++) {
        const struct kind *x = &w->kinds[k];
        struct part p = {.out = w->out, .before = ", ", .after = ""};
        struct raw_layer from = w->inherited;
        enum mixer named;

        if (mixer_find(x->name, &named)) {
            from.l.attn.mixer = named;
            if (named != MIXER_SLIDING && named != MIXER_CHUNKED)
                from.l.attn.window_tokens = 0;
            if (k == w->base || raw_same(&x->raw, &from))
                continue; /* the mixer's name says all */
        }
        fprintf(w->out, "%s  %s: {", headed ? "" : "layer_kinds:\n", x->name);
        write_layer(&p, &x->raw, &from);
        fputs("}\n", w->out);
        headed = true;
    }
    write_types(w);
}

/* The top level as it will be read: what is not written is the default. */
static struct raw_layer as_read(const struct raw_layer *base, const struct raw_layer *plain)
{
    struct raw_layer r = *base;
    size_t n;
    const struct slot *s = slots_of(SLOTS_LAYER, &n);

    for (size_t i = 0; i < n; i++) {
        bool shared =
            base->l.attn.mixer == MIXER_LATENT && /* v_head_dim and mla.v_dim are one member */
            s[i].at == offsetof(struct raw_layer, l.attn.v_dim);

        if (!applies(&s[i], base) && !shared)
            slot_set(&s[i], &r, slot_get(&s[i], plain));
    }
    return r;
}

/* ---- the model ------------------------------------------------------------------------ */

static void write_model_slots(const struct writer *w)
{
    struct model plain = inline_model();
    const struct model *m = w->m;
    size_t n;
    const struct slot *s = slots_of(SLOTS_MODEL, &n);

    for (size_t i = 0; i < n; i++) {
        const char *t = NULL, *d = NULL;

        if (s[i].kind != SLOT_TEXT) {
            if (slot_get(&s[i], m) == slot_get(&s[i], &plain))
                continue;
            fprintf(w->out, "%s: ", s[i].field.key);
            write_value(&s[i], m, w->out);
            fputc('\n', w->out);
        } else {
            memcpy(&t, (const char *)m + s[i].at, sizeof t);
            memcpy(&d, (const char *)&plain + s[i].at, sizeof d);
            if (!t || (d && strcmp(t, d) == 0))
                continue;
            fprintf(w->out, "%s: ", s[i].field.key);
            write_text(t, w->out);
            fputc('\n', w->out);
        }
    }
}

static void write_sources(const struct writer *w)
{
    bool native = false;

    for (uint32_t i = 0; i < w->m->n_layers; i++)
        native |= w->m->layers[i].attn.kv_source != i;
    if (!native)
        return;
    fputs("kv_sources: [", w->out);
    for (uint32_t i = 0; i < w->m->n_layers; i++)
        fprintf(w->out, "%s%" PRIu32, i ? ", " : "", w->m->layers[i].attn.kv_source + 1);
    fputs("]\n", w->out);
}

/* sources: the parts between "; ", one a line. */
static void write_provenance(const struct model *m, struct arena *a, FILE *out)
{
    const char *s = m->sources;

    if (s && *s)
        fputs("sources:\n", out);
    while (s && *s) {
        const char *end = strstr(s, "; ");
        size_t n = end ? (size_t)(end - s) : strlen(s);

        fputs("  - ", out);
        write_text(arena_strndup(a, s, n), out);
        fputc('\n', out);
        s += n + (end ? 2 : 0);
    }
    if (m->confidence)
        fprintf(out, "confidence: %s\n", m->confidence);
}

void model_write_yaml(const struct model *m, FILE *out)
{
    struct arena *a = arena_new();
    struct writer w = {.m = m, .out = out};
    struct raw_layer plain = inline_layer();
    struct part p = {.out = out, .before = "", .after = "\n"};

    w.kinds = ARENA_NEW(a, struct kind, m->n_layers);
    w.of = ARENA_NEW(a, uint32_t, m->n_layers);
    find_kinds(&w);
    write_model_slots(&w);
    fprintf(out, "layers: %" PRIu32 "\n", m->n_layers);
    /* what a reader implies without a mixer key */
    plain.l.attn.mixer = raw_has(&w.kinds[w.base].raw, SLOTS_MLA) ? MIXER_LATENT
                         : w.kinds[w.base].raw.l.attn.heads       ? MIXER_FULL
                                                                  : MIXER_NONE;
    if (w.n_kinds == 1 && w.kinds[0].raw.l.attn.mixer == MIXER_SLIDING)
        plain.l.attn.mixer = MIXER_SLIDING;
    w.inherited = as_read(&w.kinds[w.base].raw, &plain);
    write_layer(&p, &w.kinds[w.base].raw, &plain);
    write_kinds(&w);
    write_sources(&w);
    write_quant(m, out);
    write_provenance(m, a, out);
    arena_free(a);
}
