/*
 * Digests of fs-verity blocks and of small files, several at once: one block per lane of a vector register.
 *
 * fs-verity hashes each block by itself, so blocks can share vector instructions, which no hash function
 * that takes one message at a time can use. Algorithms: FIPS 180-4. Written with the vector extension of
 * GCC and Clang, compiled once per instruction set (see _lanes_kernels.h) and chosen when it is loaded.
 * cfsctl.fsverity.lanes checks the results against hashlib before it uses this module.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian processors are supported"
#endif

#define BLOCK_SIZE 4096
#define MAX_LANES 16
#define MAX_DIGEST_SIZE 64
#define DESCRIPTOR_SIZE 256
#define RELEASE_BLOCKS 4 /* below, giving the interpreter lock away costs more than it gains */

static inline uint64_t read64(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return __builtin_bswap64(word);
}

static inline uint32_t read32(const uint8_t *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return __builtin_bswap32(word);
}

static inline void write64(uint8_t *to, uint64_t word)
{
    word = __builtin_bswap64(word);
    memcpy(to, &word, sizeof word);
}

static inline void write32(uint8_t *to, uint32_t word)
{
    word = __builtin_bswap32(word);
    memcpy(to, &word, sizeof word);
}

/* FIPS 180-4, 4.2 and 5.3: bits of the fractions of cube roots and square roots of the first primes. */
static const uint64_t K512[80] = {
    UINT64_C(0x428a2f98d728ae22), UINT64_C(0x7137449123ef65cd), UINT64_C(0xb5c0fbcfec4d3b2f),
    UINT64_C(0xe9b5dba58189dbbc), UINT64_C(0x3956c25bf348b538), UINT64_C(0x59f111f1b605d019),
    UINT64_C(0x923f82a4af194f9b), UINT64_C(0xab1c5ed5da6d8118), UINT64_C(0xd807aa98a3030242),
    UINT64_C(0x12835b0145706fbe), UINT64_C(0x243185be4ee4b28c), UINT64_C(0x550c7dc3d5ffb4e2),
    UINT64_C(0x72be5d74f27b896f), UINT64_C(0x80deb1fe3b1696b1), UINT64_C(0x9bdc06a725c71235),
    UINT64_C(0xc19bf174cf692694), UINT64_C(0xe49b69c19ef14ad2), UINT64_C(0xefbe4786384f25e3),
    UINT64_C(0x0fc19dc68b8cd5b5), UINT64_C(0x240ca1cc77ac9c65), UINT64_C(0x2de92c6f592b0275),
    UINT64_C(0x4a7484aa6ea6e483), UINT64_C(0x5cb0a9dcbd41fbd4), UINT64_C(0x76f988da831153b5),
    UINT64_C(0x983e5152ee66dfab), UINT64_C(0xa831c66d2db43210), UINT64_C(0xb00327c898fb213f),
    UINT64_C(0xbf597fc7beef0ee4), UINT64_C(0xc6e00bf33da88fc2), UINT64_C(0xd5a79147930aa725),
    UINT64_C(0x06ca6351e003826f), UINT64_C(0x142929670a0e6e70), UINT64_C(0x27b70a8546d22ffc),
    UINT64_C(0x2e1b21385c26c926), UINT64_C(0x4d2c6dfc5ac42aed), UINT64_C(0x53380d139d95b3df),
    UINT64_C(0x650a73548baf63de), UINT64_C(0x766a0abb3c77b2a8), UINT64_C(0x81c2c92e47edaee6),
    UINT64_C(0x92722c851482353b), UINT64_C(0xa2bfe8a14cf10364), UINT64_C(0xa81a664bbc423001),
    UINT64_C(0xc24b8b70d0f89791), UINT64_C(0xc76c51a30654be30), UINT64_C(0xd192e819d6ef5218),
    UINT64_C(0xd69906245565a910), UINT64_C(0xf40e35855771202a), UINT64_C(0x106aa07032bbd1b8),
    UINT64_C(0x19a4c116b8d2d0c8), UINT64_C(0x1e376c085141ab53), UINT64_C(0x2748774cdf8eeb99),
    UINT64_C(0x34b0bcb5e19b48a8), UINT64_C(0x391c0cb3c5c95a63), UINT64_C(0x4ed8aa4ae3418acb),
    UINT64_C(0x5b9cca4f7763e373), UINT64_C(0x682e6ff3d6b2b8a3), UINT64_C(0x748f82ee5defb2fc),
    UINT64_C(0x78a5636f43172f60), UINT64_C(0x84c87814a1f0ab72), UINT64_C(0x8cc702081a6439ec),
    UINT64_C(0x90befffa23631e28), UINT64_C(0xa4506cebde82bde9), UINT64_C(0xbef9a3f7b2c67915),
    UINT64_C(0xc67178f2e372532b), UINT64_C(0xca273eceea26619c), UINT64_C(0xd186b8c721c0c207),
    UINT64_C(0xeada7dd6cde0eb1e), UINT64_C(0xf57d4f7fee6ed178), UINT64_C(0x06f067aa72176fba),
    UINT64_C(0x0a637dc5a2c898a6), UINT64_C(0x113f9804bef90dae), UINT64_C(0x1b710b35131c471b),
    UINT64_C(0x28db77f523047d84), UINT64_C(0x32caab7b40c72493), UINT64_C(0x3c9ebe0a15c9bebc),
    UINT64_C(0x431d67c49c100d4c), UINT64_C(0x4cc5d4becb3e42b6), UINT64_C(0x597f299cfc657e2a),
    UINT64_C(0x5fcb6fab3ad6faec), UINT64_C(0x6c44198c4a475817),
};
static const uint64_t H512[8] = {
    UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b), UINT64_C(0x3c6ef372fe94f82b),
    UINT64_C(0xa54ff53a5f1d36f1), UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
    UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179),
};
static const uint32_t K256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
static const uint32_t H256[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

#define TARGET
#define NAME(x) x##_baseline
#define VECTOR_BYTES 16
#include "_lanes_kernels.h"
#undef TARGET
#undef NAME
#undef VECTOR_BYTES

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2")))
#define NAME(x) x##_avx2
#define VECTOR_BYTES 32
#include "_lanes_kernels.h"
#undef TARGET
#undef NAME
#undef VECTOR_BYTES

#define TARGET __attribute__((target("avx512f,avx512bw,prefer-vector-width=512")))
#define NAME(x) x##_avx512
#define VECTOR_BYTES 64
#include "_lanes_kernels.h"
#undef TARGET
#undef NAME
#undef VECTOR_BYTES
#endif

typedef void kernel(const uint8_t *const *messages, size_t size, uint8_t *const *out);

typedef struct {
    const char *name;
    int vector_bytes;
    kernel *sha256, *sha512;
} instruction_set;

static const instruction_set SETS[] = {
#if defined(__x86_64__)
    {"avx512", 64, sha256_avx512, sha512_avx512},
    {"avx2", 32, sha256_avx2, sha512_avx2},
#endif
    {"baseline", 16, sha256_baseline, sha512_baseline},
};
#define SET_COUNT ((int)(sizeof SETS / sizeof SETS[0]))

/* What the processor and the operating system allow; the baseline is always there. */
static int is_available(const char *name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (!strcmp(name, "avx2"))
        return __builtin_cpu_supports("avx2") != 0;
#endif
    return !strcmp(name, "baseline");
}

/* Whether the processor has instructions for SHA-256 itself, which OpenSSL then uses. */
static int has_sha256_instructions(void)
{
#if defined(__x86_64__)
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx >> 29 & 1);
#else
    return 1; /* nearly every processor of this kind; the plain hash functions are used then */
#endif
}

/* How to run one hash with one instruction set. */
typedef struct {
    kernel *run;
    size_t lanes, digest_size;
    int algorithm;
} hasher;

/* Fill in a hasher, or raise ValueError and return -1. */
static int choose_hasher(hasher *chosen, int set, int algorithm)
{
    if (set < 0 || set >= SET_COUNT || !is_available(SETS[set].name)) {
        PyErr_SetString(PyExc_ValueError, "unknown or unavailable instruction set");
        return -1;
    }
    if (algorithm != 1 && algorithm != 2) {
        PyErr_SetString(PyExc_ValueError, "the algorithm must be 1 (SHA-256) or 2 (SHA-512)");
        return -1;
    }
    chosen->run = algorithm == 1 ? SETS[set].sha256 : SETS[set].sha512;
    chosen->lanes = (size_t)SETS[set].vector_bytes / (algorithm == 1 ? 4 : 8);
    chosen->digest_size = algorithm == 1 ? 32 : 64;
    chosen->algorithm = algorithm;
    return 0;
}

/*
 * Hash messages of equal size that follow one another, and write their digests one after the other.
 * Lanes that have no message left hash the last one once more; their results are dropped.
 */
static void hash_all(const hasher *h, const uint8_t *data, size_t size, size_t count, uint8_t *out)
{
    uint8_t scratch[MAX_DIGEST_SIZE];
    const uint8_t *messages[MAX_LANES];
    uint8_t *results[MAX_LANES];
    for (size_t start = 0; start < count; start += h->lanes) {
        for (size_t lane = 0; lane < h->lanes; lane++) {
            size_t index = start + lane;
            messages[lane] = data + (index < count ? index : count - 1) * size;
            results[lane] = index < count ? out + index * h->digest_size : scratch;
        }
        h->run(messages, size, results);
    }
}

static PyObject *hash_blocks(PyObject *module, PyObject *args)
{
    (void)module;
    int algorithm, set;
    Py_buffer data;
    hasher h;
    if (!PyArg_ParseTuple(args, "iiy*:hash_blocks", &set, &algorithm, &data))
        return NULL;
    PyObject *result = NULL;
    if (choose_hasher(&h, set, algorithm) < 0)
        goto done;
    if (data.len % BLOCK_SIZE) {
        PyErr_SetString(PyExc_ValueError, "the length must be a multiple of 4096 bytes");
        goto done;
    }
    size_t count = (size_t)data.len / BLOCK_SIZE;
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * h.digest_size));
    if (!result)
        goto done;
    uint8_t *out = (uint8_t *)PyBytes_AsString(result); /* nobody else has seen the object yet */
    if (count < RELEASE_BLOCKS) {
        hash_all(&h, data.buf, BLOCK_SIZE, count, out);
    } else {
        Py_BEGIN_ALLOW_THREADS
        hash_all(&h, data.buf, BLOCK_SIZE, count, out);
        Py_END_ALLOW_THREADS
    }
done:
    PyBuffer_Release(&data);
    return result;
}

/* A small file: its size in bytes, and how many blocks that is. */
typedef struct {
    uint64_t size;
    size_t blocks;
} small_file;

/* Hash the tree block of each file that has one, as many at a time as there are lanes. */
static void hash_tree_blocks(const hasher *h, const small_file *files, size_t count, const uint8_t *digests,
                             uint8_t *tree, uint8_t *roots)
{
    uint8_t *places[MAX_LANES], found[MAX_LANES * MAX_DIGEST_SIZE];
    size_t waiting = 0;
    for (size_t index = 0; index < count; index++) {
        size_t length = files[index].blocks * h->digest_size;
        if (files[index].blocks == 1)
            memcpy(roots, digests, length);
        if (files[index].blocks > 1) {
            memcpy(tree + waiting * BLOCK_SIZE, digests, length);
            memset(tree + waiting * BLOCK_SIZE + length, 0, BLOCK_SIZE - length);
            places[waiting++] = roots;
        }
        digests += length;
        roots += h->digest_size;
        if (waiting == h->lanes || (waiting && index + 1 == count)) {
            hash_all(h, tree, BLOCK_SIZE, waiting, found);
            while (waiting) {
                waiting--;
                memcpy(places[waiting], found + waiting * h->digest_size, h->digest_size);
            }
        }
    }
}

/* struct fsverity_descriptor: version, algorithm, log2 of the block size; size at 8, root at 16. */
static void describe(const hasher *h, const small_file *files, size_t count, const uint8_t *roots, uint8_t *descriptors)
{
    memset(descriptors, 0, count * DESCRIPTOR_SIZE);
    for (size_t index = 0; index < count; index++) {
        uint8_t *descriptor = descriptors + index * DESCRIPTOR_SIZE;
        descriptor[0] = 1;
        descriptor[1] = (uint8_t)h->algorithm;
        descriptor[2] = 12;
        memcpy(descriptor + 8, &files[index].size, sizeof files[index].size);
        memcpy(descriptor + 16, roots + index * h->digest_size, h->digest_size);
    }
}

/* Take the sizes of files from a list; return their number of blocks, or raise and return -1. */
static Py_ssize_t take_sizes(PyObject *sizes, Py_ssize_t count, small_file *files, const hasher *h)
{
    Py_ssize_t total = 0;
    for (Py_ssize_t index = 0; index < count; index++) {
        unsigned long long size = PyLong_AsUnsignedLongLong(PyList_GetItem(sizes, index));
        if (PyErr_Occurred())
            return -1;
        if (size > BLOCK_SIZE / h->digest_size * BLOCK_SIZE) {
            PyErr_SetString(PyExc_ValueError, "a file has more blocks than one tree block holds digests of");
            return -1;
        }
        files[index].size = size;
        files[index].blocks = (size_t)(size + BLOCK_SIZE - 1) / BLOCK_SIZE;
        total += (Py_ssize_t)files[index].blocks;
    }
    return total;
}

static PyObject *hash_files(PyObject *module, PyObject *args)
{
    (void)module;
    int algorithm, set;
    Py_buffer data;
    PyObject *sizes, *result = NULL;
    small_file *files = NULL;
    uint8_t *memory = NULL;
    hasher h;
    if (!PyArg_ParseTuple(args, "iiy*O:hash_files", &set, &algorithm, &data, &sizes))
        return NULL;
    if (!PyList_Check(sizes)) {
        PyErr_SetString(PyExc_TypeError, "sizes must be a list");
        goto done;
    }
    if (choose_hasher(&h, set, algorithm) < 0)
        goto done;
    size_t count = (size_t)PyList_Size(sizes);
    files = PyMem_Malloc((count + 1) * sizeof *files);
    if (!files) {
        PyErr_NoMemory();
        goto done;
    }
    Py_ssize_t blocks = take_sizes(sizes, (Py_ssize_t)count, files, &h);
    if (blocks < 0)
        goto done;
    if (data.len % BLOCK_SIZE || data.len / BLOCK_SIZE != blocks) {
        PyErr_SetString(PyExc_ValueError, "the length must be that of all files, each in whole blocks");
        goto done;
    }
    size_t digests_size = (size_t)blocks * h.digest_size;
    size_t roots_size = count * h.digest_size;
    memory = PyMem_Malloc(digests_size + roots_size + h.lanes * BLOCK_SIZE + count * DESCRIPTOR_SIZE);
    if (!memory) {
        PyErr_NoMemory();
        goto done;
    }
    uint8_t *roots = memory + digests_size, *tree = roots + roots_size, *descriptors = tree + h.lanes * BLOCK_SIZE;
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * h.digest_size));
    if (!result)
        goto done;
    uint8_t *out = (uint8_t *)PyBytes_AsString(result); /* nobody else has seen the object yet */
    Py_BEGIN_ALLOW_THREADS
    hash_all(&h, data.buf, BLOCK_SIZE, (size_t)blocks, memory);
    memset(roots, 0, roots_size); /* what a file without data has */
    hash_tree_blocks(&h, files, count, memory, tree, roots);
    describe(&h, files, count, roots, descriptors);
    hash_all(&h, descriptors, DESCRIPTOR_SIZE, count, out);
    Py_END_ALLOW_THREADS
done:
    PyMem_Free(memory);
    PyMem_Free(files);
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef METHODS[] = {
    {"hash_blocks", hash_blocks, METH_VARARGS,
     "hash_blocks(instruction_set, algorithm, data) -> bytes\n\n"
     "Return the digests of all blocks of data, one after the other.\n\n"
     "instruction_set is an index into NAMES, algorithm the kernel's number of the hash (1: SHA-256,\n"
     "2: SHA-512), and the length of data a multiple of 4096 bytes."},
    {"hash_files", hash_files, METH_VARARGS,
     "hash_files(instruction_set, algorithm, data, sizes) -> bytes\n\n"
     "Return the fs-verity digests of small files, one after the other.\n\n"
     "data holds the files, each filled up with zeros to whole blocks, and sizes is the list of their sizes\n"
     "in bytes, at most as many blocks as a tree block holds digests of. The rest is as for hash_blocks."},
    {NULL, NULL, 0, NULL},
};

/* Fill the module: NAMES has None for what this processor lacks. */
static int fill_module(PyObject *module)
{
    PyObject *names = PyTuple_New(SET_COUNT);
    if (!names)
        return -1;
    for (int set = 0; set < SET_COUNT; set++) {
        PyObject *name = is_available(SETS[set].name) ? PyUnicode_FromString(SETS[set].name)
                                                      : Py_NewRef(Py_None);
        if (!name || PyTuple_SetItem(names, set, name) < 0) {
            Py_DECREF(names);
            return -1;
        }
    }
    int status = PyModule_AddObjectRef(module, "NAMES", names);
    Py_DECREF(names);
    if (status < 0)
        return -1;
    PyObject *has_sha256 = PyBool_FromLong(has_sha256_instructions());
    status = PyModule_AddObjectRef(module, "HAS_SHA256_INSTRUCTIONS", has_sha256);
    Py_DECREF(has_sha256);
    return status;
}

static PyModuleDef_Slot SLOTS[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_lanes", "fs-verity block digests by vector instructions.", 0,
    METHODS, SLOTS, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lanes(void)
{
    return PyModuleDef_Init(&MODULE);
}
