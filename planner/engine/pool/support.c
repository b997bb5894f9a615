/* Formats and rules a server has no code for. */
#include "planner/engine/pool/support.h"

#include <string.h>

static bool listed(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(name, *names))
            return true;
    return false;
}

/* The first format of a row that is not listed; NULL = all are. Index keys have one of their
 * own. */
static const char *odd_format(const struct layout *l, const char *const *names)
{
    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        bool attends = r->stream == STREAM_KV || r->stream == STREAM_LATENT;
        if (!r->readers || !attends)
            continue;
        if (!listed(r->k_format.name, names))
            return r->k_format.name;
        if (r->v_dim && !listed(r->v_format.name, names))
            return r->v_format.name;
    }
    return NULL;
}

void support_check(const struct engine_in *in, const char *engine, const char *const *formats,
                   struct diag *d)
{
    const struct layout *l = in->layout;
    const char *odd = odd_format(l, formats);

    if (odd)
        diag_add(d, DIAG_WARN, in->at, "%s has no cache format %s: planned as if it had",
                 engine, odd);
    if (l->retention && strcmp(l->retention, "none"))
        diag_add(d, DIAG_WARN, in->at,
                 "%s keeps every token in view: %s is planned as if it could drop them", engine,
                 l->retention);
}
