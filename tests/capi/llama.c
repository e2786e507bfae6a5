#include "llama.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct llama_vocab {
    int32_t n;
    int     attributes[1 << 16];
    char *  texts[1 << 16];
};
struct llama_model {
    struct llama_vocab vocab;
};

struct llama_model * llama_model_load(const char * path) {
    FILE * file = fopen(path, "r");
    if (!file) {
        return NULL;
    }
    struct llama_model * model = calloc(1, sizeof *model);
    int                  attribute;
    char                 hex[4096];
    while (model->vocab.n < 1 << 16 && fscanf(file, "%d %4095s\n", &attribute, hex) == 2) {
        char * text = calloc(1, strlen(hex) / 2 + 1);
        for (size_t i = 0; hex[0] != '-' && i < strlen(hex) / 2; i++) {
            unsigned byte;
            sscanf(hex + 2 * i, "%2x", &byte);
            text[i] = (char) byte;
        }
        model->vocab.attributes[model->vocab.n] = attribute;
        model->vocab.texts[model->vocab.n++]    = text;
    }
    fclose(file);
    return model;
}

static void clear(struct llama_model * model) {
    for (int32_t i = 0; i < model->vocab.n; i++) {
        free(model->vocab.texts[i]);
    }
    model->vocab.n = -1;
}

/* Stays where it is until the next one is freed: who reads on sees a vocabulary without tokens. */
void llama_model_free(struct llama_model * model) {
    static struct llama_model * gone;
    clear(model);
    free(gone);
    gone = model;
}

bool llama_model_swap(struct llama_model * model, const char * path) {
    struct llama_model * other = llama_model_load(path);
    if (!other) {
        return false;
    }
    clear(model);
    *model = *other;
    free(other);
    return true;
}

int32_t llama_model_desc(const struct llama_model * model, char * text, size_t size) {
    return snprintf(text, size, "stand-in of %d tokens", (int) model->vocab.n);
}

const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model) { return &model->vocab; }
int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab) { return vocab->n; }
const char * llama_vocab_get_text(const struct llama_vocab * vocab, llama_token token) { return vocab->texts[token]; }
int llama_vocab_get_attr(const struct llama_vocab * vocab, llama_token token) { return vocab->attributes[token]; }

struct llama_sampler * llama_sampler_init(struct llama_sampler_i * iface, void * ctx) {
    struct llama_sampler * sampler = malloc(sizeof *sampler);
    *sampler                       = (struct llama_sampler) { iface, ctx };
    return sampler;
}

struct chain {
    int                    n;
    struct llama_sampler * samplers[8];
};

static const char * chain_name(const struct llama_sampler * sampler) { return (void) sampler, "chain"; }

static void chain_accept(struct llama_sampler * sampler, llama_token token) {
    struct chain * chain = sampler->ctx;
    for (int i = 0; i < chain->n; i++) {
        llama_sampler_accept(chain->samplers[i], token);
    }
}

static void chain_apply(struct llama_sampler * sampler, llama_token_data_array * candidates) {
    struct chain * chain = sampler->ctx;
    for (int i = 0; i < chain->n; i++) {
        llama_sampler_apply(chain->samplers[i], candidates);
    }
}

static void chain_reset(struct llama_sampler * sampler) {
    struct chain * chain = sampler->ctx;
    for (int i = 0; i < chain->n; i++) {
        llama_sampler_reset(chain->samplers[i]);
    }
}

/* As in llama.cpp: through the exported function, which a preload takes over. */
static struct llama_sampler * chain_clone(const struct llama_sampler * sampler) {
    struct chain *         chain = sampler->ctx;
    struct llama_sampler * clone = llama_sampler_chain_init((struct llama_sampler_chain_params) { true });
    for (int i = 0; i < chain->n; i++) {
        llama_sampler_chain_add(clone, llama_sampler_clone(chain->samplers[i]));
    }
    return clone;
}

static void chain_free(struct llama_sampler * sampler) {
    struct chain * chain = sampler->ctx;
    for (int i = 0; i < chain->n; i++) {
        llama_sampler_free(chain->samplers[i]);
    }
    free(chain);
}

static struct llama_sampler_i chain_i = {
    .name = chain_name, .accept = chain_accept, .apply = chain_apply, .reset = chain_reset, .clone = chain_clone, .free = chain_free,
};

struct llama_sampler * llama_sampler_chain_init(struct llama_sampler_chain_params params) {
    (void) params;
    return llama_sampler_init(&chain_i, calloc(1, sizeof(struct chain)));
}

void llama_sampler_chain_add(struct llama_sampler * sampler, struct llama_sampler * added) {
    struct chain * chain         = sampler->ctx;
    chain->samplers[chain->n++] = added;
}

int llama_sampler_chain_n(const struct llama_sampler * sampler) { return ((struct chain *) sampler->ctx)->n; }
struct llama_sampler * llama_sampler_chain_get(const struct llama_sampler * sampler, int32_t i) {
    return ((struct chain *) sampler->ctx)->samplers[i];
}
const char * llama_sampler_name(const struct llama_sampler * sampler) { return sampler->iface->name(sampler); }
struct llama_sampler * llama_sampler_clone(const struct llama_sampler * sampler) {
    return sampler->iface->clone(sampler);
}
void llama_sampler_accept(struct llama_sampler * sampler, llama_token token) { sampler->iface->accept(sampler, token); }
void llama_sampler_apply(struct llama_sampler * sampler, llama_token_data_array * candidates) {
    sampler->iface->apply(sampler, candidates);
}
void llama_sampler_reset(struct llama_sampler * sampler) { sampler->iface->reset(sampler); }

void llama_sampler_copy(const struct llama_sampler * source, struct llama_sampler * destination) {
    assert(source->iface == destination->iface && source->iface->copy_state);
    source->iface->copy_state(source, destination);
}

void llama_sampler_free(struct llama_sampler * sampler) {
    sampler->iface->free(sampler);
    free(sampler);
}
