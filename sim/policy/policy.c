/* The registry of policies. */
#include "sim/policy/policy.h"

#include <stdio.h>
#include <string.h>

#define ENTRY(id) extern const struct policy policy_##id;
#include "policy.inc"
#undef ENTRY

static const struct policy *const policies[] = {
#define ENTRY(id) &policy_##id,
#include "policy.inc"
#undef ENTRY
    NULL,
};

const struct policy *policy_at(size_t i)
{
    return i < sizeof policies / sizeof *policies ? policies[i] : NULL;
}

const struct policy *policy_find(const char *name, struct loc at, struct diag *d)
{
    char known[256] = "";
    size_t used = 0;

    for (size_t i = 0; policies[i]; i++) {
        int n;
        if (!strcmp(policies[i]->name, name))
            return policies[i];
        n = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                     policies[i]->name);
        if (n > 0 && (size_t)n < sizeof known - used)
            used += (size_t)n;
    }
    diag_add(d, DIAG_INPUT, at, "unknown policy '%s'; known policies: %s", name, known);
    return NULL;
}

const char *policy_name(const struct policy *p)
{
    return p->name;
}

const char *policy_summary(const struct policy *p)
{
    return p->summary;
}

const char *policy_source(const struct policy *p)
{
    return p->source;
}
