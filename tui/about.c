/* Schemes in words, for Why on the rows of Compare and Front. */
#include "tui/about.h"

static const char *about_quality(struct arena *a, const struct evidence_near *near)
{
    const struct evidence_row *e = near->row;
    const char *text;

    if (!e)
        return "\nno quality is published for it\n";
    text = arena_printf(a,
                        "\npublished quality, the nearest setting\n  %s %.6g (%s is better)\n"
                        "  model %s\n  %s\n  %s\n",
                        e->metric, e->value, e->higher_is_better ? "more" : "less", e->model,
                        near->how_far, e->source);
    if (e->has_baseline)
        text = arena_printf(a, "%s  plain model %.6g\n", text, e->baseline);
    if (e->note)
        text = arena_printf(a, "%s  %s\n", text, e->note);
    return text;
}

const char *about_scheme(struct arena *a, const struct compare_row *r)
{
    const struct scheme *s = r->use.scheme;
    const char *text =
        arena_printf(a, "%s\n\nsource      %s\nconfidence  %s\nparameters  %s\n", s->summary,
                     s->source, s->confidence, *r->params ? r->params : "none");

    if (r->reason)
        text = arena_printf(a, "%s\nno figures: %s\n", text, r->reason);
    if (s->caveat)
        text = arena_printf(a, "%s\n%s\n", text, s->caveat);
    for (size_t k = 0; r->warnings && r->warnings[k]; k++)
        text = arena_printf(a, "%s\n%s\n", text, r->warnings[k]);
    return arena_printf(a, "%s%s", text, about_quality(a, &r->near));
}
