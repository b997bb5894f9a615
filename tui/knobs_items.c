/* What a knob can be set to, as lists to search: profiles, engines, formats, schemes, switches,
 * each with a note. The lists of profiles are made once and kept with the session. */
#include <string.h>

#include "planner/base/ck.h"
#include "planner/model/inline.h"
#include "planner/model/weights.h"
#include "tui/knobs_in.h"

struct builder {
    struct arena *a;
    const char **items, **notes;
    size_t n, cap;
};

struct knob_lists {
    struct builder models;
    const struct profile_entry *entries; /* of the models, as far as they are listed */
    size_t n_entries, next;
    struct knob_items gpus;
};

static void add(struct builder *b, const char *item, const char *note)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 64;
        b->items = arena_grow(b->a, b->items, b->n, cap, sizeof *b->items);
        b->notes = arena_grow(b->a, b->notes, b->n, cap, sizeof *b->notes);
        b->cap = cap;
    }
    b->items[b->n] = item;
    b->notes[b->n++] = note ? note : "";
}

static struct knob_items done(const struct builder *b)
{
    return (struct knob_items){b->items, b->notes, b->n};
}

/* --- profiles ------------------------------------------------------------------------------
 */

/* "70.6 B, 320 KiB a token": its size and what a token of its own cache costs. */
static const char *model_note(struct arena *a, const struct doc_node *doc)
{
    struct arena *scratch = arena_new();
    struct diag *quiet = diag_new(scratch);
    struct model m;
    struct layout lay;
    struct param_count params;
    struct fold fold;
    struct ck ck = {0};
    const char *note = "";
    char bytes[32];
    bool *owns;

    if (doc && model_from_inline(scratch, doc, quiet, &m) &&
        layout_new(scratch, &m, quiet, &lay)) {
        owns = ARENA_NEW(scratch, bool, m.n_layers + 1);
        for (uint32_t i = 0; i < m.n_layers; i++)
            owns[i] = layout_owns_kv(&lay, i);
        weights_count(&m, owns, &params, &ck);
        fold_layout(&lay, (struct slice){1, 1, 0, m.n_layers}, &fold, &ck);
        unit_format_bytes(fold_token_bytes(&fold, false, &ck), bytes, sizeof bytes);
        note = arena_printf(a, "%5.1f B, %s a token", (double)params.total / 1e9, bytes);
    }
    arena_free(scratch);
    return note;
}

static struct knob_items list_gpus(struct session *s)
{
    struct builder b = {.a = s->arena};
    struct diag *quiet = diag_new(s->arena);
    size_t n;
    const struct profile_entry *all =
        profile_list(s->profiles, PROFILE_GPU, s->arena, quiet, &n);

    for (size_t i = 0; i < n; i++) {
        struct gpu g;
        char memory[32], rate[32];
        if (!gpu_load(s->arena, s->profiles, all[i].name, (struct loc){.file = all[i].file},
                      quiet, &g))
            continue;
        unit_format_bytes(g.memory_usable_bytes, memory, sizeof memory);
        unit_format_rate(g.bandwidth_bytes_per_s, rate, sizeof rate);
        add(&b, g.name, arena_printf(s->arena, "%10s, %s", memory, rate));
    }
    add(&b, "local", "the GPU of this machine");
    return done(&b);
}

static struct knob_lists *lists(struct session *s)
{
    struct knob_lists *l = s->lists;

    if (l)
        return l;
    l = s->lists = ARENA_NEW(s->arena, struct knob_lists, 1);
    l->models.a = s->arena;
    l->entries =
        profile_list(s->profiles, PROFILE_MODEL, s->arena, diag_new(s->arena), &l->n_entries);
    return l;
}

bool knob_warm(struct session *s, size_t n)
{
    struct knob_lists *l = lists(s);
    struct arena *scratch = arena_new();

    for (; n > 0 && l->next < l->n_entries; n--, l->next++) {
        const char *name = l->entries[l->next].name;
        add(&l->models, name,
            model_note(s->arena,
                       profile_find(s->profiles, PROFILE_MODEL, name, diag_new(scratch))));
    }
    arena_free(scratch);
    return l->next < l->n_entries;
}

/* --- the rest ------------------------------------------------------------------------------
 */

static void add_engines(struct builder *b)
{
    for (size_t i = 0; engine_at(i); i++)
        add(b, engine_at(i)->name, engine_at(i)->summary);
}

static void add_weight_formats(struct builder *b)
{
    add(b, "default", "as the checkpoint says");
    for (size_t i = 0; weight_format_at(i); i++) {
        const struct weight_format *f = weight_format_at(i);
        add(b, f->name,
            arena_printf(b->a, "%5.2f bits a weight", 8.0 * f->block_bytes / f->block_elems));
    }
}

static void add_schemes(struct builder *b, enum scheme_axis axis)
{
    add(b, axis == AXIS_STORAGE ? "default" : "none",
        axis == AXIS_STORAGE ? "as the checkpoint or the engine says" : "");
    for (size_t i = 0; scheme_at(i); i++) {
        const struct scheme *x = scheme_at(i);
        for (const char *const *v = x->names; *v && x->axis == axis && !x->unsupported; v++)
            add(b, *v, x->summary);
    }
}

static void add_choices(struct builder *b, const struct knob *k)
{
    if (!k->field)
        add(b, "default", "as the engine does");
    for (const char *const *c = k->choices; *c; c++)
        add(b, *c, NULL);
}

void knob_items(struct session *s, struct arena *a, const struct knob *k,
                struct knob_items *out)
{
    struct builder b = {.a = a};
    enum scheme_axis axis;

    *out = (struct knob_items){0};
    if (knob_is(k, "model")) {
        knob_warm(s, SIZE_MAX);
        *out = done(&s->lists->models);
        return;
    }
    if (knob_is(k, "hardware.gpu")) {
        if (!lists(s)->gpus.n)
            s->lists->gpus = list_gpus(s);
        *out = s->lists->gpus;
        return;
    }
    if (k->choices)
        add_choices(&b, k);
    else if (knob_is(k, "engine.name"))
        add_engines(&b);
    else if (knob_is(k, "weights.format"))
        add_weight_formats(&b);
    else if (!k->field && knob_axis(k, &axis))
        add_schemes(&b, axis);
    *out = done(&b);
}

void knob_names(const struct session *s, struct arena *a, struct knob_items *out)
{
    struct builder b = {.a = a};
    struct knob_list list;

    for (size_t i = 0; knob_row(i); i++)
        add(&b, knob_row(i)->name, knob_row(i)->help);
    knobs_shown(s, a, &list);
    for (size_t i = 0; i < list.n; i++)
        if (list.v[i].field)
            add(&b, list.v[i].name, list.v[i].help);
    *out = done(&b);
}
