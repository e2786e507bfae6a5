/* A program with a llama.cpp of its own that is guided through genarm.h: program CASE CONFIG TOKENS. Aborts where something is wrong. */
#include "../../include/genarm.h"
#include "llama.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                          \
    do {                                                                                                          \
        if (!(condition)) {                                                                                       \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, genarm_last_error()); \
            abort();                                                                                              \
        }                                                                                                         \
    } while (0)
#define OK(call) CHECK((call) == GENARM_OK)

size_t __sanitizer_get_current_allocated_bytes(void);

static struct llama_model * model;
static int32_t              n_vocab;

static struct llama_sampler * new_sampler(genarm * guidance) {
    struct llama_sampler * sampler = NULL;
    OK(genarm_sampler_new(guidance, llama_model_get_vocab(model), llama_sampler_init, &sampler));
    return sampler;
}

/* The logits that a sampler makes of zeros. */
static float * apply(struct llama_sampler * sampler) {
    float *            logits = calloc((size_t) n_vocab, sizeof *logits);
    llama_token_data * data   = calloc((size_t) n_vocab, sizeof *data);
    for (int32_t i = 0; i < n_vocab; i++) {
        data[i].id = n_vocab - 1 - i; /* in no particular order */
    }
    llama_token_data_array candidates = { data, (size_t) n_vocab, -1, true };
    llama_sampler_apply(sampler, &candidates);
    for (int32_t i = 0; i < n_vocab; i++) {
        logits[data[i].id] = data[i].logit;
    }
    free(data);
    return logits;
}

static void tell(struct llama_sampler * sampler, int n) {
    for (int i = 0; i < n; i++) {
        llama_sampler_accept(sampler, 1 + i % 7);
    }
}

/* Prints the guided logits after tokens 1 .. 5, three ways that must agree. */
static void logits(genarm * guidance) {
    struct llama_sampler * sampler = new_sampler(guidance);
    tell(sampler, 5);
    struct llama_sampler * clone = llama_sampler_clone(sampler);
    struct llama_sampler * copy  = new_sampler(guidance);
    llama_sampler_copy(sampler, copy);
    float * first = apply(sampler), *second = apply(clone), *third = apply(copy);
    const int32_t tokens[] = { 1, 2, 3, 4, 5 };
    float *       added    = calloc((size_t) n_vocab, sizeof *added);
    OK(genarm_sampler_add_logits(sampler, tokens, 5, added, (size_t) n_vocab));
    for (int32_t i = 0; i < n_vocab; i++) {
        CHECK(first[i] == added[i]);
        CHECK(fabsf(first[i] - second[i]) < 1e-3f && fabsf(first[i] - third[i]) < 1e-3f);
        printf("%.9g\n", (double) first[i]);
    }
    OK(genarm_sampler_set_weight(copy, "cheerful", 0.0f)); /* known by its address after the copy, too */
    OK(genarm_sampler_free(copy, llama_sampler_init));
    CHECK(genarm_sampler_free(copy, llama_sampler_init) == GENARM_HANDLE);
    llama_sampler_free(clone);
    llama_sampler_free(sampler);
    free(first), free(second), free(third), free(added);
}

/* Open, a thousand samplers, close, in all orders. */
static void life(const char * config) {
    genarm * guidance = NULL;
    OK(genarm_open_file(config, "happy", "plain=0.25", &guidance));
    float weights[3];
    OK(genarm_get_weights(guidance, weights, 3));
    CHECK(weights[0] == 1.5f && weights[1] == 0.0f && weights[2] == 0.25f);
    struct llama_sampler * samplers[1000];
    for (int i = 0; i < 1000; i++) {
        samplers[i] = new_sampler(guidance);
        if (i % 100 == 0) {
            tell(samplers[i], 3 + i / 100);
            free(apply(samplers[i]));
        }
    }
    for (int i = 0; i < 1000; i += 2) {
        llama_sampler_free(samplers[i]);
        CHECK(genarm_sampler_set_weight(samplers[i], "plain", 1.0f) == GENARM_HANDLE);
    }
    OK(genarm_close(guidance));
    CHECK(genarm_close(guidance) == GENARM_HANDLE);
    CHECK(genarm_set_weight(guidance, "plain", 1.0f) == GENARM_HANDLE);
    /* Closed, and its samplers still guide. */
    tell(samplers[1], 4);
    OK(genarm_sampler_set_weight(samplers[1], "plain", 1.0f));
    float * guided = apply(samplers[1]);
    CHECK(guided[0] != 0.0f || guided[1] != 0.0f);
    free(guided);
    for (int i = 999; i > 0; i -= 2) {
        llama_sampler_free(samplers[i]);
    }
}

static void errors(genarm * guidance, const char * config) {
    genarm *               other   = (genarm *) 1;
    struct llama_sampler * sampler = new_sampler(guidance);
    float                  weights[3];
    size_t                 n;
    const char *           name;
    CHECK(genarm_open_file(NULL, NULL, NULL, &other) == GENARM_NULL && strstr(genarm_last_error(), "path is NULL"));
    CHECK(genarm_open_file(config, NULL, NULL, NULL) == GENARM_NULL);
    CHECK(genarm_open_file("\xff", NULL, NULL, &other) == GENARM_TEXT);
    CHECK(genarm_open_file("no.yaml", NULL, NULL, &other) == GENARM_CONFIG && strstr(genarm_last_error(), "no such file"));
    CHECK(genarm_open_file(config, "hapy", NULL, &other) == GENARM_NAME && strstr(genarm_last_error(), "did you mean \"happy\""));
    CHECK(genarm_open_file(config, NULL, "cheerful", &other) == GENARM_VALUE);
    CHECK(genarm_open_file(config, NULL, "grim=1", &other) == GENARM_NAME);
    CHECK(genarm_open_string("base: {model: no.gguf}", "/", NULL, NULL, &other) == GENARM_MODEL);
    CHECK(genarm_open_string("base: [", NULL, NULL, NULL, &other) == GENARM_CONFIG);
    CHECK(other == (genarm *) 1); /* written only on success */
    CHECK(genarm_close(NULL) == GENARM_NULL && genarm_close((genarm *) 8) == GENARM_HANDLE);
    OK(genarm_n_arms(guidance, &n));
    CHECK(n == 3);
    OK(genarm_arm_name(guidance, 1, &name));
    CHECK(strcmp(name, "talkative") == 0);
    CHECK(genarm_arm_name(guidance, 3, &name) == GENARM_VALUE);
    CHECK(genarm_get_weights(guidance, weights, 2) == GENARM_VALUE);
    CHECK(genarm_get_weights(guidance, weights, (size_t) -1) == GENARM_VALUE);
    CHECK(genarm_set_weight(guidance, "grim", 1.0f) == GENARM_NAME && strstr(genarm_last_error(), "cheerful"));
    CHECK(genarm_set_weight(guidance, "plain", NAN) == GENARM_VALUE);
    CHECK(genarm_set_weights(guidance, (float[]) { 1, 2, INFINITY }, 3) == GENARM_VALUE);
    CHECK(genarm_sampler_new(guidance, NULL, NULL, NULL) == GENARM_NULL);
    CHECK(genarm_sampler_set_weight(NULL, "plain", 1.0f) == GENARM_NULL);
    CHECK(genarm_sampler_set_weight((struct llama_sampler *) weights, "plain", 1.0f) == GENARM_HANDLE);
    CHECK(genarm_sampler_set_profile(sampler, "glommy") == GENARM_NAME);
    CHECK(genarm_sampler_last_logprobs(sampler, weights, 3, NULL) == GENARM_STEP);
    const int32_t outside[] = { 1, 1 << 30, -5 };
    float *       row       = calloc((size_t) n_vocab + 1, sizeof *row);
    CHECK(genarm_sampler_add_logits(sampler, outside, 3, row, (size_t) n_vocab) == GENARM_STEP);
    CHECK(genarm_sampler_add_logits(sampler, outside, 1, row, (size_t) n_vocab + 1) == GENARM_VOCABULARY);
    CHECK(genarm_sampler_add_logits(sampler, (const int32_t *) row, 1, row, (size_t) n_vocab) == GENARM_VALUE);
    CHECK(genarm_sampler_add_logits(sampler, outside, 1, (float *) ((char *) row + 1), 1) == GENARM_VALUE);
    free(row);
    /* The values that were refused have changed nothing; these do. */
    OK(genarm_sampler_set_profile(sampler, "gloomy"));
    OK(genarm_sampler_get_weights(sampler, weights, 3));
    CHECK(weights[0] == -0.7f);
    OK(genarm_get_weights(guidance, weights, 3));
    CHECK(weights[0] == 1.0f);
    tell(sampler, 3);
    free(apply(sampler));
    llama_sampler_accept(sampler, 4);
    int32_t token;
    OK(genarm_sampler_last_logprobs(sampler, weights, 3, &token));
    CHECK(token == 4 && weights[0] < 0.0f && weights[1] < 0.0f && weights[2] < 0.0f);
    OK(genarm_set_profile(guidance, "chatty"));
    OK(genarm_sampler_get_weights(sampler, weights, 3));
    CHECK(weights[0] == 0.0f && weights[1] == 0.7f);
    CHECK(genarm_abi_version() == GENARM_ABI_VERSION && strchr(genarm_version(), '.'));
    llama_sampler_free(sampler);
}

/* Two vocabularies at one address in turn: each is judged by what it holds. */
static void swapped(genarm * guidance, const char * tokens, const char * others) {
    const struct llama_vocab * vocab   = llama_model_get_vocab(model);
    struct llama_sampler *     sampler = NULL;
    for (int i = 0; i < 3; i++) {
        llama_sampler_free(new_sampler(guidance));
        OK(genarm_check_vocabulary(guidance, vocab, llama_sampler_init));
        CHECK(llama_model_swap(model, others) && llama_model_get_vocab(model) == vocab);
        CHECK(genarm_sampler_new(guidance, vocab, llama_sampler_init, &sampler) == GENARM_VOCABULARY && !sampler);
        CHECK(strstr(genarm_last_error(), "elsewhere"));
        CHECK(genarm_check_vocabulary(guidance, vocab, NULL) == GENARM_VOCABULARY);
        CHECK(llama_model_swap(model, tokens));
    }
    CHECK(genarm_check_vocabulary(guidance, NULL, NULL) == GENARM_NULL);
}

static atomic_bool generating = true;

static void * set_weights(void * guidance) {
    for (unsigned i = 0; atomic_load(&generating); i++) {
        const float value = (float) (i % 3); /* all three the same: a reader must never see a mixture */
        OK(genarm_set_weights(guidance, (float[]) { value, value, value }, 3));
        float seen[3];
        OK(genarm_get_weights(guidance, seen, 3));
        CHECK(seen[0] == seen[1] && seen[1] == seen[2]);
    }
    return NULL;
}

static void * generate(void * guidance) {
    struct llama_sampler * sampler = new_sampler(guidance);
    for (int i = 0; i < 40; i++) {
        llama_sampler_accept(sampler, 1 + i % 5);
        float * row = apply(sampler);
        for (int32_t token = 0; token < n_vocab; token++) {
            CHECK(isfinite(row[token]));
        }
        free(row);
    }
    llama_sampler_free(sampler);
    return NULL;
}

/* Eight threads set weights while two generate. */
static void threads(genarm * guidance) {
    pthread_t setters[8], generators[2];
    for (int i = 0; i < 8; i++) {
        CHECK(pthread_create(&setters[i], NULL, set_weights, guidance) == 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&generators[i], NULL, generate, guidance) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(generators[i], NULL);
    }
    atomic_store(&generating, false);
    for (int i = 0; i < 8; i++) {
        pthread_join(setters[i], NULL);
    }
}

int main(int argc, char ** argv) {
    CHECK(argc == 4 || argc == 5);
    model = llama_model_load(argv[3]);
    CHECK(model);
    n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    if (strcmp(argv[1], "life") == 0) {
        /* What a registry still knows is no leak to the sanitizer, so what is allocated is counted too. The first two lives
         * leave behind what is made once a process. */
        life(argv[2]);
        life(argv[2]);
        const size_t before = __sanitizer_get_current_allocated_bytes();
        life(argv[2]);
        const size_t after = __sanitizer_get_current_allocated_bytes();
        printf("%zu bytes, then %zu\n", before, after);
        CHECK(after <= before + 4096);
        llama_model_free(model);
        return 0;
    }
    genarm * guidance = NULL;
    OK(genarm_open_file(argv[2], NULL, NULL, &guidance));
    if (strcmp(argv[1], "refused") == 0) {
        struct llama_sampler * sampler = NULL;
        CHECK(genarm_sampler_new(guidance, llama_model_get_vocab(model), llama_sampler_init, &sampler) == GENARM_VOCABULARY);
        CHECK(!sampler);
        puts(genarm_last_error());
    } else if (strcmp(argv[1], "logits") == 0) {
        logits(guidance);
    } else if (strcmp(argv[1], "swapped") == 0) {
        CHECK(argc == 5);
        swapped(guidance, argv[3], argv[4]);
    } else if (strcmp(argv[1], "errors") == 0) {
        errors(guidance, argv[2]);
    } else {
        CHECK(strcmp(argv[1], "threads") == 0);
        threads(guidance);
    }
    OK(genarm_close(guidance));
    llama_model_free(model);
    return 0;
}
