// llama.cpp's own reading of chat templates with tools, and of the answers to them (common/chat.h), for callers that are
// not C++. JSON goes in, JSON comes out; an exception becomes {"error": "what it says"}.

#include "chat.h"
#include "log.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>

namespace {

char * copied(const std::string & text) {
    char * out = static_cast<char *>(std::malloc(text.size() + 1));
    if (out != nullptr) {
        std::memcpy(out, text.c_str(), text.size() + 1);
    }
    return out;
}

char * failed(const char * what) {
    try {
        common_json error;
        error["error"] = std::string(what);
        return copied(error.dump());
    } catch (...) {
        return copied("{\"error\":\"out of memory\"}");
    }
}

// Runs `make`, which gives JSON.
template <typename Make> char * guarded(Make make) noexcept {
    try {
        return copied(make().dump());
    } catch (const std::exception & e) {
        return failed(e.what());
    } catch (...) {
        return failed("an unknown exception");
    }
}

std::string text_of(const common_json & object, const char * key) {
    return object.contains(key) && object.at(key).is_string() ? object.at(key).get<std::string>() : std::string();
}

bool flag_of(const common_json & object, const char * key, bool otherwise) {
    return object.contains(key) && object.at(key).is_boolean() ? object.at(key).get<bool>() : otherwise;
}

common_reasoning_format reasoning_format(const common_json & asked) {
    return flag_of(asked, "splits_reasoning", true) ? COMMON_REASONING_FORMAT_AUTO : COMMON_REASONING_FORMAT_NONE;
}

const char * name_of(common_grammar_trigger_type type) {
    switch (type) {
        case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN: return "token";
        case COMMON_GRAMMAR_TRIGGER_TYPE_WORD: return "word";
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN: return "pattern";
        default: return "pattern_full";
    }
}

common_json apply(const common_chat_templates * templates, const common_json & asked) {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(asked.at("messages"));
    if (asked.contains("tools")) {
        inputs.tools = common_chat_tools_parse_oaicompat(asked.at("tools"));
        inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(text_of(asked, "tool_choice"));
    }
    const auto caps = common_chat_templates_get_caps(templates);
    const auto parallel = caps.find("supports_parallel_tool_calls");
    inputs.parallel_tool_calls = flag_of(asked, "parallel_tool_calls", parallel != caps.end() && parallel->second);
    inputs.enable_thinking = flag_of(asked, "enable_thinking", true);
    inputs.reasoning_format = reasoning_format(asked);
    if (asked.contains("variables")) {
        for (const auto & item : asked.at("variables").items()) {
            inputs.chat_template_kwargs[item.key()] = item.value().dump();
        }
    }
    const common_chat_params params = common_chat_templates_apply(templates, inputs);
    std::vector<common_json> triggers;
    for (const auto & trigger : params.grammar_triggers) {
        common_json one;
        one["type"] = std::string(name_of(trigger.type));
        one["value"] = trigger.value;
        triggers.push_back(one);
    }
    common_json out;
    out["grammar"] = params.grammar;
    out["grammar_lazy"] = params.grammar_lazy;
    out["triggers"] = triggers;
    out["preserved_tokens"] = params.preserved_tokens;
    out["additional_stops"] = params.additional_stops;
    out["generation_prompt"] = params.generation_prompt;
    out["supports_thinking"] = params.supports_thinking;
    out["thinking_end"] = params.thinking_end_tags.empty() ? std::string() : params.thinking_end_tags.front();
    out["format"] = static_cast<int64_t>(params.format);
    out["parser"] = params.parser;
    return out;
}

}  // namespace

extern "C" {

// A template, read; null with *error where it cannot be.
common_chat_templates * genarm_chat_template(const char * source, const char * bos, const char * eos, char ** error) noexcept {
    *error = nullptr;
    // It would write what users write to standard error.
    static std::once_flag quiet;
    try {
        std::call_once(quiet, [] { common_log_set_verbosity_thold(-1); });
        return common_chat_templates_init(nullptr, source, bos, eos).release();
    } catch (const std::exception & e) {
        *error = failed(e.what());
    } catch (...) {
        *error = failed("an unknown exception");
    }
    return nullptr;
}

void genarm_chat_template_free(common_chat_templates * templates) noexcept {
    common_chat_templates_free(templates);
}

// What the template can do, as an object of flags.
char * genarm_chat_caps(const common_chat_templates * templates) noexcept {
    return guarded([&] {
        common_json out;
        for (const auto & cap : common_chat_templates_get_caps(templates)) {
            out[cap.first] = cap.second;
        }
        return out;
    });
}

// Grammar, triggers and parser of the answer to a conversation with tools.
char * genarm_chat_apply(const common_chat_templates * templates, const char * asked) noexcept {
    return guarded([&] { return apply(templates, common_json::parse(asked)); });
}

// A parser of answers; null with *error where `params`, an object that genarm_chat_apply made, has none.
common_chat_parser_params * genarm_chat_parser(const char * params, char ** error) noexcept {
    *error = nullptr;
    try {
        const common_json asked = common_json::parse(params);
        auto parser = std::make_unique<common_chat_parser_params>();
        parser->format = static_cast<common_chat_format>(asked.at("format").get<int64_t>());
        parser->reasoning_format = reasoning_format(asked);
        parser->generation_prompt = text_of(asked, "generation_prompt");
        parser->parse_tool_calls = flag_of(asked, "parse_tool_calls", true);
        const std::string arena = text_of(asked, "parser");
        if (!arena.empty()) {
            parser->parser.load(arena);
        }
        return parser.release();
    } catch (const std::exception & e) {
        *error = failed(e.what());
    } catch (...) {
        *error = failed("an unknown exception");
    }
    return nullptr;
}

void genarm_chat_parser_free(common_chat_parser_params * parser) noexcept {
    delete parser;
}

// What an answer says: its content, its reasoning, its calls. `is_partial` where more of it comes.
char * genarm_chat_parse(const common_chat_parser_params * parser, const char * text, bool is_partial) noexcept {
    return guarded([&] {
        const common_chat_msg message = common_chat_parse(text, is_partial, *parser);
        std::vector<common_json> calls;
        for (const auto & call : message.tool_calls) {
            common_json one;
            one["name"] = call.name;
            one["arguments"] = call.arguments;
            one["id"] = call.id;
            calls.push_back(one);
        }
        common_json out;
        out["content"] = message.render_content();
        out["reasoning_content"] = message.reasoning_content;
        out["tool_calls"] = calls;
        return out;
    });
}

void genarm_chat_free(char * text) noexcept {
    std::free(text);
}

}
