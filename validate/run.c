/* The runner: levels, devices, and one check after the other. */
#include "validate/run.h"

#include <string.h>

#include "planner/doc/doc.h"

static const struct loc nowhere;

bool run_levels(struct arena *a, const char *list, struct diag *d, unsigned *out)
{
    const char *names[N_LEVELS];
    char *words = arena_strdup(a, list ? list : "");

    *out = list ? 0 : 1u << LEVEL_COUNT | 1u << LEVEL_FIT | 1u << LEVEL_CLOCK;
    for (int i = 0; i < N_LEVELS; i++)
        names[i] = level_name((enum level)i);
    for (char *w = words, *next; list && w; w = next) {
        const char *near;
        int i = 0;
        next = strchr(w, ',');
        if (next)
            *next++ = '\0';
        while (i < N_LEVELS && strcmp(w, names[i]) != 0)
            i++;
        near = i == N_LEVELS ? doc_nearest(w, names, N_LEVELS) : NULL;
        if (near)
            return diag_add(d, DIAG_USAGE, nowhere,
                            "--level has no level '%s'; did you mean '%s'?", w, near);
        if (i == N_LEVELS)
            return diag_add(d, DIAG_USAGE, nowhere,
                            "--level takes count, fit, clock and counters, found '%s'", w);
        *out |= 1u << i;
    }
    return true;
}

struct runner {
    const struct run_options *o;
    struct run_result *out;
    struct diag *d;
    struct check_in in;
    size_t done, total;
};

/* What holds for every spec is said once. */
static void waive(struct runner *r, const struct check *c, const char *why)
{
    struct findings *f = &r->out->findings;
    struct finding like = {
        .spec = r->in.subject->name, .check = c->name, .what = c->summary, .level = c->level};

    for (size_t i = 0; i < f->n; i++) {
        struct finding *x = &f->list[i];
        if (x->check == c->name && x->what == c->summary && !strcmp(x->reason, why)) {
            x->spec = "all";
            return;
        }
    }
    finding_waive(f, like, "%s", why);
}

static bool run_one(struct runner *r, const struct subject *subject, const struct check *c)
{
    size_t before = r->out->findings.n;
    bool small = r->in.info.is_cpu && c->whole && subject->small;
    const char *why;
    enum device_status s;

    r->done++;
    if (subject->levels && !(subject->levels >> c->level & 1))
        return true;
    r->in.subject = small ? subject->small : subject;
    r->in.limit_bytes = r->o->limit_bytes ? r->o->limit_bytes : subject->limit_bytes;
    why = c->filter ? c->filter(&r->in) : NULL;
    if (r->o->progress)
        r->o->progress(
            r->o->user, r->done - 1, r->total,
            arena_printf(r->out->findings.arena, "%s: %s", r->in.subject->name, c->name));
    if (why) {
        waive(r, c, why);
        return true;
    }
    s = c->run(&r->in, &r->out->findings);
    for (size_t i = before; i < r->out->findings.n; i++)
        r->out->findings.list[i].small = small;
    if (s == DEVICE_OK)
        return true;
    return diag_add(r->d, s == DEVICE_BAD_ARGUMENT ? DIAG_INTERNAL : DIAG_DEVICE, nowhere,
                    "%s of %s on %s: %s", c->name, r->in.subject->name, r->in.device_name,
                    device_error(r->in.device));
}

static bool run_all(struct runner *r, const struct subject *subjects, size_t n)
{
    size_t checks = 0;
    bool ok = true;

    for (size_t i = 0; check_at(i); i++)
        checks += r->o->levels >> check_at(i)->level & 1;
    r->total = n * checks;
    for (size_t s = 0; s < n && ok; s++)
        for (size_t i = 0; check_at(i) && ok; i++)
            if (r->o->levels >> check_at(i)->level & 1)
                ok = run_one(r, &subjects[s], check_at(i));
    if (ok && r->o->progress)
        r->o->progress(r->o->user, r->total, r->total, "");
    return ok;
}

bool run_checks(struct arena *a, const struct run_options *o, const struct subject *subjects,
                size_t n, struct diag *d, struct run_result *out)
{
    struct device_options plain = {.poison = true, .timeout_s = o->timeout_s};
    struct runner r = {.o = o, .out = out, .d = d};
    struct device_text why;
    struct device *device;
    bool ok;

    *out = (struct run_result){.findings = {.arena = a}};
    if (device_open(o->device, &plain, &device, &why) != DEVICE_OK)
        return diag_add(d, DIAG_DEVICE, nowhere, "%s: %s", o->device, why.text);
    r.in = (struct check_in){
        .device = device, .device_name = o->device, .timeout_s = o->timeout_s, .seed = o->seed};
    ok = device_get_info(device, &r.in.info) == DEVICE_OK;
    out->info = r.in.info;
    if (!ok)
        diag_add(d, DIAG_DEVICE, nowhere, "%s: %s", o->device, device_error(device));
    ok = ok && run_all(&r, subjects, n);
    device_close(device);
    for (size_t i = 0; i < out->findings.n; i++)
        out->n[out->findings.list[i].verdict]++;
    return ok;
}
