/* A stand-in for llama.cpp's sampler interface, as far as a host of genarm needs it: the same names, structs and habits. */
#ifndef STAND_IN_LLAMA_H
#define STAND_IN_LLAMA_H

#include "../../vendor/llama-sampler-abi/llama_sampler_abi.h"

struct llama_model; /* a file of tokens, a line each: attribute, space, the text's bytes in hexadecimal */
struct llama_vocab;
struct llama_sampler_chain_params { bool no_perf; };

struct llama_model * llama_model_load(const char * path);
void llama_model_free(struct llama_model * model);
/* Another model at the same address, as after a free and a load. */
bool llama_model_swap(struct llama_model * model, const char * path);
int32_t llama_model_desc(const struct llama_model * model, char * text, size_t size);
const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab);
const char * llama_vocab_get_text(const struct llama_vocab * vocab, llama_token token);
int llama_vocab_get_attr(const struct llama_vocab * vocab, llama_token token);

struct llama_sampler * llama_sampler_init(struct llama_sampler_i * iface, void * ctx);
struct llama_sampler * llama_sampler_chain_init(struct llama_sampler_chain_params params);
void llama_sampler_chain_add(struct llama_sampler * chain, struct llama_sampler * sampler);
int llama_sampler_chain_n(const struct llama_sampler * chain);
const char * llama_sampler_name(const struct llama_sampler * sampler);
struct llama_sampler * llama_sampler_chain_get(const struct llama_sampler * chain, int32_t i);
struct llama_sampler * llama_sampler_clone(const struct llama_sampler * sampler);
void llama_sampler_copy(const struct llama_sampler * source, struct llama_sampler * destination);
void llama_sampler_accept(struct llama_sampler * sampler, llama_token token);
void llama_sampler_apply(struct llama_sampler * sampler, llama_token_data_array * candidates);
void llama_sampler_reset(struct llama_sampler * sampler);
void llama_sampler_free(struct llama_sampler * sampler);

#endif
