/* The size of a case, names, and issued traffic against formulas. */
#include "validate/count.h"

#include <stdio.h>

const char *count_filter(const struct check_in *in)
{
    return in->info.is_cpu ? NULL : "only the CPU build tallies what kernels do";
}

const char *count_name(struct arena *a, const char *what, const struct cache_row *reader,
                       const struct cache_row *store, uint32_t count)
{
    const char *formats =
        store->v_dim ? arena_printf(a, "%s/%s", store->k_format.name, store->v_format.name)
                     : store->k_format.name;
    const char *heads = reader ? arena_printf(a, "%u/%u", reader->q_heads, store->stored_heads)
                               : arena_printf(a, "%u", store->stored_heads);
    const char *window = reader && reader->window_tokens
                             ? arena_printf(a, ", %s %llu", mixer_name(reader->mixer),
                                            (unsigned long long)reader->window_tokens)
                             : "";

    if (store->v_dim && format_equal(&store->k_format, &store->v_format))
        formats = store->k_format.name;
    return arena_printf(a, "%s: %s heads of %u, %s%s%s, x %u", what, heads, store->k_dim,
                        formats, window,
                        reader && reader->diagonal_masked ? ", from above" : "", count);
}

bool count_alike(const struct cache_row *a, const struct cache_row *b)
{
    return a->stream == b->stream && a->stored_heads == b->stored_heads &&
           a->k_dim == b->k_dim && a->v_dim == b->v_dim && a->k_narrow_dim == b->k_narrow_dim &&
           a->keep.ragged == b->keep.ragged &&
           a->store_window_tokens == b->store_window_tokens &&
           format_equal(&a->k_format, &b->k_format) && format_equal(&a->v_format, &b->v_format);
}

uint64_t count_kv(const uint64_t bytes[N_TAGS])
{
    return bytes[TAG_K] + bytes[TAG_V];
}

void count_row(const struct subject *s, const struct read_class *c, uint64_t prompt,
               struct op_tally *t)
{
    struct read_class row = *c;
    struct fold one = {.slice = {1, 1, 0, 1}, .reads = &row, .n_reads = 1};
    struct work none = {.layers = 0};

    row.count = 1;
    row.passes = 1;
    row.early = 0;
    row.early_passes = 0;
    if (prompt)
        work_prompt(&none, &one, (struct work_part){0, prompt, 1, true}, t);
    else
        work_decode(&none, &one, s->prompt, s->decoded, 1, t);
}

struct field_of {
    const char *name;
    uint64_t formula, issued;
};

/* The first figure that differs; false when all are equal. */
static bool differs(const struct traffic *x, const struct traffic *y, struct field_of *out)
{
    static const char *const tags[N_TAGS] = {"weights", "K",    "V",         "state",
                                             "tables",  "work", "activation"};
    const struct field_of scalars[] = {
        {"tensor FLOP", x->tensor_flop, y->tensor_flop},
        {"vector FLOP", x->vector_flop, y->vector_flop},
        {"useful FLOP", x->useful_flop, y->useful_flop},
        {"exponentials", x->exps, y->exps},
        {"conversions", x->conversions, y->conversions},
    };

    for (int i = 0; i < N_TAGS; i++) {
        bool read = x->read_bytes[i] != y->read_bytes[i];
        *out = read ? (struct field_of){tags[i], x->read_bytes[i], y->read_bytes[i]}
                    : (struct field_of){tags[i], x->written_bytes[i], y->written_bytes[i]};
        if (out->formula != out->issued)
            return true;
    }
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        *out = scalars[i];
        if (out->formula != out->issued)
            return true;
    }
    return false;
}

static uint64_t all_bytes(const struct traffic *t)
{
    uint64_t sum = 0;

    for (int i = 0; i < N_TAGS; i++)
        sum += t->read_bytes[i] + t->written_bytes[i];
    return sum;
}

void count_issued(struct findings *f, struct finding like, const struct traffic *formula,
                  const struct traffic *issued)
{
    struct field_of worst;

    like.quantity = QUANTITY_BYTES;
    if (!differs(formula, issued, &worst)) {
        (void)finding_equal(f, like, all_bytes(formula), all_bytes(issued));
        return;
    }
    (void)finding_within(f, like, (double)worst.formula, (double)worst.issued, 0);
    f->list[f->n - 1].reason = arena_printf(
        f->arena, "the kernel's formula has %llu of %s, it issued %llu",
        (unsigned long long)worst.formula, worst.name, (unsigned long long)worst.issued);
}

enum device_status count_settle(struct device *d, enum device_status s, struct tally *got)
{
    if (s == DEVICE_OK)
        s = device_sync(d);
    return s == DEVICE_OK ? device_tally(d, got) : s;
}
