/* PTX as a program that can be run: what nvcc makes of kernels/, read into functions of
 * instructions whose operands are numbers of registers. Immediate values and special registers
 * are registers too, filled when a function is entered, so that running needs no names. What is
 * not understood is an error: nothing is passed over.
 *
 * source: PTX ISA 9.0, sections 4 (syntax), 5 (state spaces) and 9 (instructions) */
#ifndef KVBUDGET_TESTS_PTX_PROGRAM_H
#define KVBUDGET_TESTS_PTX_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* clang-format off */
enum op {
    OP_MOV, OP_ADD, OP_SUB, OP_MUL, OP_MAD, OP_FMA, OP_DIV, OP_REM, OP_RCP, OP_SQRT, OP_EX2,
    OP_MIN, OP_MAX, OP_NEG, OP_ABS, OP_AND, OP_OR, OP_XOR, OP_LOP3, OP_NOT, OP_SHL, OP_SHR, OP_BFI,
    OP_PRMT, OP_SELP, OP_SETP, OP_CVT, OP_CVTA, OP_LD, OP_ST, OP_ATOM, OP_CP, OP_BRA, OP_CALL,
    OP_RET, OP_EXIT, OP_TRAP, OP_BAR, OP_SHFL, OP_VOTE, OP_MMA, OP_LDMATRIX, OP_MOVMATRIX, N_OPS
};

/* Word for word as PTX writes them. */
enum word {
    /* types, the smallest first; words up to WORD_PRED are types */
    WORD_NONE, WORD_U8, WORD_S8, WORD_B8, WORD_U16, WORD_S16, WORD_B16, WORD_F16, WORD_BF16,
    WORD_U32, WORD_S32, WORD_B32, WORD_F32, WORD_F16X2, WORD_BF16X2, WORD_U64, WORD_S64,
    WORD_B64, WORD_F64, WORD_PRED,
    /* state spaces */
    WORD_GLOBAL, WORD_SHARED, WORD_LOCAL, WORD_PARAM,
    /* comparisons; the later ones are true where an operand is not a number */
    WORD_EQ, WORD_NE, WORD_LT, WORD_LE, WORD_GT, WORD_GE, WORD_EQU, WORD_NEU, WORD_LTU,
    WORD_LEU, WORD_GTU, WORD_GEU,
    /* which part of a product, roundings, exchanges, the rest */
    WORD_LO, WORD_HI, WORD_WIDE, WORD_RN, WORD_RZI, WORD_RNI, WORD_RZ, WORD_APPROX, WORD_FTZ,
    WORD_BFLY, WORD_IDX, WORD_UP, WORD_DOWN, WORD_BALLOT, WORD_V2, WORD_V4, WORD_TO, WORD_UNI,
    WORD_SYNC, WORD_ALIGNED, WORD_WARP, WORD_CS, WORD_ADD_ATOM, WORD_ASYNC, WORD_CG,
    WORD_COMMIT, WORD_WAIT, WORD_M16N8K16, WORD_M16N8K8, WORD_ROW, WORD_COL, WORD_M8N8,
    WORD_X4, WORD_TRANS, WORD_NC, WORD_CA, N_WORDS
};

/* clang-format on */

enum { OPERANDS_MAX = 16, FUNCTIONS_MAX = 128, PARAMS_MAX = 16 };
enum { TABLES_ROOM = 1 << 16 };

struct insn {
    enum op op;
    uint64_t words;             /* bit w - WORD_GLOBAL: the modifier w is there */
    uint8_t type, second, from; /* the first, the second and the last type named */
    uint8_t vec, n;             /* elements of a load or store; operands */
    uint8_t space, compare;     /* WORD_NONE: generic; a comparison */
    bool guarded, negated;      /* runs only where the guard is true, or false */
    uint32_t guard;
    uint32_t r[OPERANDS_MAX]; /* registers; of a call: places of parameters */
    int64_t offset;           /* of an address */
    uint32_t target;          /* instruction, function */
    uint16_t file, line;      /* of the source */
    bool ran;
};

struct constant { /* a register that never changes */
    uint64_t value;
    uint8_t special; /* 0, or 1 + which of %tid.x, %tid.y ... */
};
enum { SPECIAL_TID = 1, SPECIAL_NTID = 4, SPECIAL_CTAID = 7, SPECIAL_NCTAID = 10 };

struct slot { /* bytes of the parameter space of a function */
    uint32_t at, bytes;
};

struct function {
    char name[128];
    bool entry;
    uint32_t max_threads; /* of a block; 0: any */
    struct insn *code;
    uint32_t n_code, n_registers, n_constants;
    struct constant *constants; /* registers n_registers and on */
    uint32_t params_bytes, local_bytes;
    struct slot params[PARAMS_MAX], result; /* its own */
    uint32_t n_params;
    uint32_t launches, shared_bytes; /* tallies of the stand-in runtime: the most asked for */
};

struct program {
    struct function functions[FUNCTIONS_MAX];
    uint32_t n_functions, sm; /* 90 for sm_90 */
    uint8_t *tables;          /* of constants, in device memory */
    uint32_t tables_bytes;
    char files[32][64]; /* last parts of the names, by number */
};

/* Where shared memory starts in its space: a multiple of 16 and of nothing more. */
enum { SHARED_AT = 1040 };

/* NULL and a line on stderr when the text is not understood. The caller frees nothing. */
struct program *program_read(const char *text);

static inline bool insn_has(const struct insn *i, enum word w)
{
    return i->words >> (w - WORD_GLOBAL) & 1u;
}

#endif
