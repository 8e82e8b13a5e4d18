/*
 * SHA-256 and SHA-512 of several messages of equal size at once, one message per lane of a vector.
 *
 * Included once per instruction set by _lanes.c, which defines:
 *   TARGET        attribute that selects the instruction set
 *   NAME(x)       the name of x for that instruction set
 *   VECTOR_BYTES  size of its vector registers
 *
 * The size is a multiple of the hash's own block, so the padding at the end is the same for all lanes.
 */

#define LANES64 (VECTOR_BYTES / 8)
#define LANES32 (VECTOR_BYTES / 4)
#define ROTATE64(x, n) (((x) >> (n)) | ((x) << (64 - (n))))
#define ROTATE32(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define CHOOSE(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define MAJORITY(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))

typedef uint64_t NAME(vector64) __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t NAME(vector32) __attribute__((vector_size(VECTOR_BYTES)));

/* FIPS 180-4, 6.4.2: one message block of 128 bytes per lane; `w` is used up. */
TARGET static inline void NAME(compress512)(NAME(vector64) state[8], NAME(vector64) w[16])
{
    NAME(vector64) a = state[0], b = state[1], c = state[2], d = state[3];
    NAME(vector64) e = state[4], f = state[5], g = state[6], h = state[7];
    for (int start = 0; start < 80; start += 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (start) {
                NAME(vector64) x = w[(i + 1) & 15], y = w[(i + 14) & 15];
                w[i] += (ROTATE64(x, 1) ^ ROTATE64(x, 8) ^ (x >> 7)) + w[(i + 9) & 15]
                      + (ROTATE64(y, 19) ^ ROTATE64(y, 61) ^ (y >> 6));
            }
            NAME(vector64) first = h + (ROTATE64(e, 14) ^ ROTATE64(e, 18) ^ ROTATE64(e, 41))
                                 + CHOOSE(e, f, g) + K512[start + i] + w[i];
            NAME(vector64) second = (ROTATE64(a, 28) ^ ROTATE64(a, 34) ^ ROTATE64(a, 39))
                                  + MAJORITY(a, b, c);
            h = g; g = f; f = e; e = d + first;
            d = c; c = b; b = a; a = first + second;
        }
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

TARGET static void NAME(sha512)(const uint8_t *const *messages, size_t size, uint8_t *const *out)
{
    union { uint64_t words[16][LANES64]; NAME(vector64) vectors[16]; } w;
    union { uint64_t words[8][LANES64]; NAME(vector64) vectors[8]; } state;
    for (int i = 0; i < 8; i++)
        state.vectors[i] = (NAME(vector64)){0} + H512[i];
    for (size_t at = 0; at < size; at += 128) {
        for (int lane = 0; lane < LANES64; lane++)
            for (int i = 0; i < 16; i++)
                w.words[i][lane] = read64(messages[lane] + at + 8 * i);
        NAME(compress512)(state.vectors, w.vectors);
    }
    memset(&w, 0, sizeof w);
    w.vectors[0] += UINT64_C(1) << 63;
    w.vectors[15] += UINT64_C(8) * size;
    NAME(compress512)(state.vectors, w.vectors);
    for (int lane = 0; lane < LANES64; lane++)
        for (int i = 0; i < 8; i++)
            write64(out[lane] + 8 * i, state.words[i][lane]);
}

/* FIPS 180-4, 6.2.2: one message block of 64 bytes per lane; `w` is used up. */
TARGET static inline void NAME(compress256)(NAME(vector32) state[8], NAME(vector32) w[16])
{
    NAME(vector32) a = state[0], b = state[1], c = state[2], d = state[3];
    NAME(vector32) e = state[4], f = state[5], g = state[6], h = state[7];
    for (int start = 0; start < 64; start += 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (start) {
                NAME(vector32) x = w[(i + 1) & 15], y = w[(i + 14) & 15];
                w[i] += (ROTATE32(x, 7) ^ ROTATE32(x, 18) ^ (x >> 3)) + w[(i + 9) & 15]
                      + (ROTATE32(y, 17) ^ ROTATE32(y, 19) ^ (y >> 10));
            }
            NAME(vector32) first = h + (ROTATE32(e, 6) ^ ROTATE32(e, 11) ^ ROTATE32(e, 25))
                                 + CHOOSE(e, f, g) + K256[start + i] + w[i];
            NAME(vector32) second = (ROTATE32(a, 2) ^ ROTATE32(a, 13) ^ ROTATE32(a, 22))
                                  + MAJORITY(a, b, c);
            h = g; g = f; f = e; e = d + first;
            d = c; c = b; b = a; a = first + second;
        }
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

TARGET static void NAME(sha256)(const uint8_t *const *messages, size_t size, uint8_t *const *out)
{
    union { uint32_t words[16][LANES32]; NAME(vector32) vectors[16]; } w;
    union { uint32_t words[8][LANES32]; NAME(vector32) vectors[8]; } state;
    for (int i = 0; i < 8; i++)
        state.vectors[i] = (NAME(vector32)){0} + H256[i];
    for (size_t at = 0; at < size; at += 64) {
        for (int lane = 0; lane < LANES32; lane++)
            for (int i = 0; i < 16; i++)
                w.words[i][lane] = read32(messages[lane] + at + 4 * i);
        NAME(compress256)(state.vectors, w.vectors);
    }
    memset(&w, 0, sizeof w);
    w.vectors[0] += UINT32_C(1) << 31;
    w.vectors[15] += UINT32_C(8) * (uint32_t)size;
    NAME(compress256)(state.vectors, w.vectors);
    for (int lane = 0; lane < LANES32; lane++)
        for (int i = 0; i < 8; i++)
            write32(out[lane] + 4 * i, state.words[i][lane]);
}

#undef LANES64
#undef LANES32
#undef ROTATE64
#undef ROTATE32
#undef CHOOSE
#undef MAJORITY
