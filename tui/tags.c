/* The tags are a short list without gaps, in the order in which they were set. */
#include "tui/tags.h"

#include <string.h>

size_t tags_count(const struct session *s)
{
    size_t n = 0;

    while (n < SESSION_TAGS && s->tags[n])
        n++;
    return n;
}

int tags_place(const struct session *s, const char *name)
{
    for (size_t i = 0; i < tags_count(s); i++)
        if (!strcmp(s->tags[i], name))
            return (int)i + 1;
    return 0;
}

bool tags_toggle(struct session *s, const char *name)
{
    int place = tags_place(s, name);
    size_t n = tags_count(s);

    if (!place) {
        if (n == SESSION_TAGS)
            return false;
        s->tags[n] = name;
        return true;
    }
    for (size_t i = (size_t)place; i < n; i++)
        s->tags[i - 1] = s->tags[i];
    s->tags[n - 1] = NULL;
    return true;
}
