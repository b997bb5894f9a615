/* UTF-8: decode one character, and make text from files safe to show. Nothing about widths. */
#ifndef KVBUDGET_PLANNER_BASE_UTF8_H
#define KVBUDGET_PLANNER_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at `s` (at most `n` are looked at), or 0 when it is not valid UTF-8:
 * overlong forms, surrogates and values above U+10FFFF are not (RFC 3629 section 3). */
static inline size_t utf8_next(const char *s, size_t n, uint32_t *cp)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s;
    size_t len;
    uint32_t c;

    if (n == 0)
        return 0;
    c = p[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || len > n)
        return 0;
    c &= 0x7fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *cp = c;
    return len;
}

static inline bool utf8_is_control(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0);
}

/* Puts '?' for every control character and invalid byte, in place; n = strlen(s). */
static inline void utf8_clean(char *s, size_t n)
{
    size_t to = 0;

    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t len = utf8_next(s + i, n - i, &cp);

        if (len == 0 || utf8_is_control(cp)) {
            s[to++] = '?';
            i += len ? len : 1;
            continue;
        }
        for (size_t k = 0; k < len; k++)
            s[to++] = s[i++];
    }
    s[to] = '\0';
}

#endif
