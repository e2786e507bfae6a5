/*
 * genarm: steers language models token by token, inside programs that run llama.cpp themselves.
 *
 * Generated from src/capi by cbindgen; do not edit. MIT OR Apache-2.0.
 *
 *     genarm * guidance = NULL;
 *     struct llama_sampler * sampler = NULL;
 *     if (genarm_open_file("prefs.yaml", NULL, NULL, &guidance) != GENARM_OK ||
 *         genarm_sampler_new(guidance, llama_model_get_vocab(model), llama_sampler_init, &sampler) != GENARM_OK) {
 *         fprintf(stderr, "%s\n", genarm_last_error());
 *         exit(1);
 *     }
 *     llama_sampler_chain_add(chain, sampler); // first; the chain frees it
 *
 * Conventions
 *
 * Errors. A call answers GENARM_OK (0) or a code above it, and did nothing then; genarm_last_error tells this thread why, in one
 * line. Results are written through pointers, last, and only on success. NULL where a value is needed is GENARM_NULL and no
 * crash; where NULL is allowed, the function says so. No panic and no exception leaves the library.
 *
 * Ownership. genarm_open_* gives a handle to be closed by genarm_close. Handles are never followed as pointers: one that is closed
 * twice is GENARM_HANDLE. A sampler belongs to the chain that it was added to, as in llama.cpp. Guidance and samplers may be let go of
 * in any order: the ARMs stay in memory until both are gone. Texts passed in are copied; texts given out say how long they live.
 *
 * Threads. Every function may be called from any thread at any time, also while others generate; setting weights is atomic and
 * holds from the next token on. A single sampler is used by one thread at a time, as in llama.cpp. A sampler that has been freed
 * is GENARM_HANDLE and no crash, except in genarm_sampler_free, which must not race with its use. ARMs are evaluated one text at a time, on
 * the thread that samples.
 *
 * Failures while sampling. A sampler cannot answer with an error: the configuration's `on_error` says whether the text goes on without
 * guidance (base, logged once a text) or ends (stop: all but the end-of-generation tokens are forbidden).
 *
 * Environment. GENARM_LOG filters the log on stderr (warn, genarm=debug, ...); GENARM_SEQUENCES is the largest number of texts that
 * keep ARM sequences of their own (16); beyond that, they take turns and read their texts again.
 */

#ifndef GENARM_H
#define GENARM_H

#include <stddef.h>
#include <stdint.h>

/* llama.h's; all that is shared with it. */
struct llama_sampler;
struct llama_sampler_i;
struct llama_vocab;

// The number of this interface: it changes when a program must be compiled again.
#define GENARM_ABI_VERSION 1

// What a call answers. Numbers are never given a new meaning; later versions may add some.
typedef enum genarm_status {
  // It is done.
  GENARM_OK = 0,
  // A required argument is NULL.
  GENARM_NULL = 1,
  // A handle or sampler was freed, or does not belong to genarm.
  GENARM_HANDLE = 2,
  // A text is not UTF-8.
  GENARM_TEXT = 3,
  // The configuration cannot be used.
  GENARM_CONFIG = 4,
  // A model or an adapter cannot be loaded, or does not fit in memory.
  GENARM_MODEL = 5,
  // Host and ARM have different vocabularies.
  GENARM_VOCABULARY = 6,
  // No ARM or profile has this name.
  GENARM_NAME = 7,
  // A number is not finite or out of range, or a list has the wrong length.
  GENARM_VALUE = 8,
  // An ARM failed at this step; the context is full, for example.
  GENARM_STEP = 9,
  // The host's llama.cpp lacks a function, or the system refused something.
  GENARM_HOST = 10,
  // Internal error in genarm: the call had no effect; please report it
  GENARM_PANIC = 11,
} genarm_status;

// An open guidance: a configuration with its ARMs loaded. Opened by genarm_open_*, closed by genarm_close.
typedef struct genarm genarm;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The GENARM_ABI_VERSION that the library was built with. Compare it with the header's after `dlopen`.
uint32_t genarm_abi_version(void);

// The version of genarm, such as "0.1.0".
const char *genarm_version(void);

// Opens a guidance from a YAML file and loads its ARMs. Of the base only the vocabulary is read.
//
// `profile` (or NULL) names a set of weights in the file; `weights` (or NULL) is a list such as
// "helpful=1.2,harmless=0" that beats both. On success `*out` is a handle; close it with genarm_close.
enum genarm_status genarm_open_file(const char *path,
                                    const char *profile,
                                    const char *weights,
                                    struct genarm **out);

// Opens what guides one model of a host that runs several: the entry `host` of `hosts:` in a YAML file, such as
// "ollama:llama3.2". `model` is the path of the host's model, which is the base where the entry names none. The rest
// is as in genarm_open_file.
enum genarm_status genarm_open_host(const char *path,
                                    const char *host,
                                    const char *model,
                                    const char *profile,
                                    const char *weights,
                                    struct genarm **out);

// Opens a guidance from a YAML text. Paths in it are relative to `folder`; NULL is the working directory.
enum genarm_status genarm_open_string(const char *yaml,
                                      const char *folder,
                                      const char *profile,
                                      const char *weights,
                                      struct genarm **out);

// Closes a guidance. Samplers that are still there stay good, and keep the ARMs in memory until the last one is freed.
enum genarm_status genarm_close(struct genarm *guidance);

// Watches the file that the guidance was opened from: a saved change of the weights holds from the next token on, for
// all samplers. A file that cannot be used changes nothing; the log says why.
enum genarm_status genarm_watch(struct genarm *guidance);

// The number of ARMs.
enum genarm_status genarm_n_arms(const struct genarm *guidance, size_t *out);

// The name of ARM `index`, from 0. The text is good until genarm_close.
enum genarm_status genarm_arm_name(const struct genarm *guidance, size_t index, const char **out);

// The weights that new samplers start with, in the order of the ARMs. `n` is the number of ARMs.
enum genarm_status genarm_get_weights(const struct genarm *guidance, float *out, size_t n);

// Sets the weight of the ARM `name` for all samplers, those to come too, from the next token on.
// `ARM.OBJECTIVE` names a preference of an ARM with several objectives.
enum genarm_status genarm_set_weight(struct genarm *guidance, const char *name, float weight);

// Sets all weights at once for all samplers, those to come too, from the next token on. `n` is the number of ARMs.
enum genarm_status genarm_set_weights(struct genarm *guidance,
                                      const float *weights,
                                      size_t n);

// Sets the weights of the configuration's profile `name` for all samplers, those to come too.
enum genarm_status genarm_set_profile(struct genarm *guidance, const char *name);

// Tokens that the ARMs have read since the guidance was opened, in all sequences. What prefix reuse saves is not in
// it.
enum genarm_status genarm_n_decoded(const struct genarm *guidance,
                                    uint64_t *out);

// Makes a sampler, to be added first to a chain: `llama_sampler_chain_add(chain, sampler)` before all others. The
// chain then owns it; one that is in no chain is freed with the host's llama_sampler_free, or with
// genarm_sampler_free.
//
// `vocab` is the host's `llama_vocab` (or NULL): its tokens are compared with the ARMs', and a host with others is
// refused. Without it, only their number is compared, at each step.
//
// `init` is the host's llama_sampler_init (or NULL: it is looked for among the libraries that are open to all; a
// program that links llama.cpp statically, and Python, pass it). The sampler is made by it, so that the host may free
// it.
enum genarm_status genarm_sampler_new(struct genarm *guidance,
                                      const struct llama_vocab *vocab,
                                      struct llama_sampler *(*init)(struct llama_sampler_i *iface, void *ctx),
                                      struct llama_sampler **out);

// Whether a model of the host can be guided: GENARM_OK where its vocabulary is the ARMs', GENARM_VOCABULARY with the
// first differences where it is not. A host with several models, one of which drafts, asks which of them is the base.
enum genarm_status genarm_check_vocabulary(const struct genarm *guidance,
                                           const struct llama_vocab *vocab,
                                           struct llama_sampler *(*init)(struct llama_sampler_i *iface,
                                                                         void *ctx));

// Frees a sampler that is in no chain. `init` is what genarm_sampler_new was given.
enum genarm_status genarm_sampler_free(struct llama_sampler *sampler,
                                       struct llama_sampler *(*init)(struct llama_sampler_i *iface, void *ctx));

// The weights of one sampler, in the order of the ARMs. `n` is the number of ARMs.
enum genarm_status genarm_sampler_get_weights(const struct llama_sampler *sampler, float *out, size_t n);

// Sets the weight of the ARM `name` for this sampler and its clones, from the next token on.
// `ARM.OBJECTIVE` names a preference of an ARM with several objectives.
enum genarm_status genarm_sampler_set_weight(struct llama_sampler *sampler, const char *name, float weight);

// Sets all weights of this sampler and its clones at once. `n` is the number of ARMs.
enum genarm_status genarm_sampler_set_weights(struct llama_sampler *sampler, const float *weights, size_t n);

// Sets the weights of the configuration's profile `name` for this sampler and its clones.
enum genarm_status genarm_sampler_set_profile(struct llama_sampler *sampler, const char *name);

// The log-probability that each ARM gave to the last accepted token: natural, at temperature 1, in the order of the
// ARMs. It is the token's reward, but for the factor of the ARM's training. `n` is the number of ARMs; `token` (or
// NULL) gets the token.
//
// Costs a pass over the vocabulary an ARM when asked before the next step; after it the ARMs read a token again.
enum genarm_status genarm_sampler_last_logprobs(const struct llama_sampler *sampler,
                                                float *out,
                                                size_t n,
                                                int32_t *token);

// Adds the ARMs' weighted logits after `tokens` to a row of logits, with this sampler's weights and sequences: for
// hosts that hand out logits instead of candidates. What the sampler has been told by its chain does not matter here,
// and does not change.
//
// `logits` are the base's after `tokens`, one a token of its vocabulary. An empty history changes nothing.
enum genarm_status genarm_sampler_add_logits(struct llama_sampler *sampler,
                                             const int32_t *tokens,
                                             size_t n_tokens,
                                             float *logits,
                                             size_t n_vocab);

// Why the last failed call of this thread failed, in one line; empty if none has. Valid until the next call of this
// thread.
const char *genarm_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GENARM_H */
