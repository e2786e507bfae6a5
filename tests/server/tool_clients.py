"""Lets LangChain, LlamaIndex, litellm and llm call tools at a running server: URL and key are the arguments.

The model is a small one that tells stories, so the schemas of the tools leave no choice, and the first turn requires a call.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Literal

URL, KEY = sys.argv[1:3]
LOOPBACK = ("127.0.0.1", b"127.0.0.1", "::1", "localhost")
strangers = set()


def nothing_but_the_server_is_spoken_to(event, arguments):
    """Clients fetch price lists and vocabularies unasked, and go on without them: so what was refused is kept, too."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in LOOPBACK:
        strangers.add(host)
        raise OSError(f"{host} is not the server")


# Before the clients are imported: some ask on import.
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
}
sys.addaudithook(nothing_but_the_server_is_spoken_to)

import litellm
import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

litellm.suppress_debug_info = True

QUESTION = "Is it warm?"
TOO_LONG = "Lily ran to the park. " * 2000
ROME = {"city": "Rome"}
# Room for a call; and for an answer so short that the noise between batches does not change it.
CALL, ANSWER = 200, 12


def refusal(ask, kind):
    """The error with which something too long is refused."""
    try:
        ask()
    except kind as error:
        return error
    sys.exit(f"a prompt that does not fit was taken; {kind.__name__} is missing")


def in_openai_words(error):
    assert error.code == "context_length_exceeded" and "exceeds the available context size" in str(error), error


def langchain_calls_a_tool_and_goes_on_with_its_result(**options):
    @tool
    def weather(city: Literal["Rome"]) -> str:
        """Tells the weather."""
        return "31 degrees"

    model = ChatOpenAI(model="base", base_url=URL, api_key=KEY, max_retries=0, temperature=0, max_tokens=CALL, **options)
    must, may = model.bind_tools([weather], tool_choice="required"), model.bind_tools([weather]).bind(max_completion_tokens=ANSWER)
    called = must.invoke([HumanMessage(QUESTION)])
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("weather", ROME)], called
    assert not called.invalid_tool_calls and called.usage_metadata["output_tokens"] > 0, called

    streamed = None
    chunks = 0
    for chunk in must.stream([HumanMessage(QUESTION)]):
        streamed = chunk if streamed is None else streamed + chunk
        chunks += 1
    assert chunks > 3, chunks
    assert [(call["name"], call["args"]) for call in streamed.tool_calls] == [("weather", ROME)], streamed

    for call in (called, streamed):
        result = weather.invoke(call.tool_calls[0])
        assert isinstance(result, ToolMessage) and result.content == "31 degrees", result
        conversation = [HumanMessage(QUESTION), call, result]
        answer = may.invoke(conversation)
        assert answer.text and not answer.tool_calls, answer
        assert "".join(chunk.text for chunk in may.stream(conversation)) == answer.text, answer

    for ask in (lambda: must.invoke(TOO_LONG), lambda: list(must.stream(TOO_LONG))):
        error = refusal(ask, ContextOverflowError)
        assert isinstance(error, openai.BadRequestError), error
        in_openai_words(error)


def langchain_calls_a_tool_through_responses():
    langchain_calls_a_tool_and_goes_on_with_its_result(use_responses_api=True, output_version="responses/v1")


def llamaindex_and_its_agent_call_a_tool_and_go_on_with_its_result():
    asked = []

    def weather(city: Literal["Rome"]) -> str:
        """Tells the weather."""
        asked.append(city)
        return "31 degrees"

    model = OpenAILike(
        model="base", api_base=URL, api_key=KEY, is_chat_model=True, is_function_calling_model=True,
        context_window=2048, max_tokens=CALL, temperature=0, max_retries=0,
    )
    tools = [FunctionTool.from_defaults(weather)]
    whole = model.chat_with_tools(tools, user_msg=QUESTION, tool_required=True)
    streamed = list(model.stream_chat_with_tools(tools, user_msg=QUESTION, tool_required=True))
    assert len(streamed) > 3, streamed
    for response in (whole, streamed[-1]):
        (call,) = model.get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("weather", ROME), call
        result = ChatMessage(role="tool", content="31 degrees", additional_kwargs={"tool_call_id": call.tool_id})
        history = [ChatMessage(role="user", content=QUESTION), response.message, result]
        answer = model.chat_with_tools(tools, chat_history=history, max_tokens=ANSWER)
        assert answer.message.content, answer
        assert not model.get_tool_calls_from_response(answer, error_on_no_tool_call=False), answer

    async def the_agent_answers(streaming):
        # Where it may call several times, the model does.
        agent = FunctionAgent(
            tools=tools, llm=model, initial_tool_choice="required", allow_parallel_tool_calls=False, streaming=streaming
        )
        return await agent.run(QUESTION)

    for streaming in (True, False):
        asked.clear()
        answer = asyncio.run(the_agent_answers(streaming))
        assert asked == ["Rome"] and answer.response.content, (asked, answer)
        assert [call.tool_output.content for call in answer.tool_calls] == ["31 degrees"], answer

    message = [ChatMessage(role="user", content=TOO_LONG)]
    for ask in (lambda: model.chat(message), lambda: list(model.stream_chat(message))):
        in_openai_words(refusal(ask, openai.BadRequestError))


def litellm_calls_a_tool_and_goes_on_with_its_result():
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "description": "Tells the weather", "parameters": schema}}]
    question = [{"role": "user", "content": QUESTION}]

    def ask(messages, **fields):
        return litellm.completion(
            model="openai/base", api_base=URL, api_key=KEY, messages=messages, tools=tools, temperature=0, num_retries=0,
            **{"max_tokens": CALL, **fields},
        )

    whole = ask(question, tool_choice="required")
    assert whole.choices[0].finish_reason == "tool_calls" and whole.usage.completion_tokens > 0, whole
    chunks = list(ask(question, tool_choice="required", stream=True, stream_options={"include_usage": True}))
    streamed = litellm.stream_chunk_builder(chunks, messages=question)
    assert len(chunks) > 3 and streamed.usage.completion_tokens == whole.usage.completion_tokens, (streamed, whole)
    for response in (whole, streamed):
        message = response.choices[0].message
        (call,) = message.tool_calls
        assert call.id and call.function.name == "weather" and json.loads(call.function.arguments) == ROME, response
        result = {"role": "tool", "tool_call_id": call.id, "content": "31 degrees"}
        answer = ask([*question, message, result], max_tokens=ANSWER).choices[0].message
        assert answer.content and not answer.tool_calls, answer


def litellm_knows_a_conversation_that_does_not_fit_and_so_does_aider():
    # Aider looks the class of the error up in a list (aider/exceptions.py), so a class derived from it would not do. At this
    # one it says that the context is exhausted; at others it gives up or asks again. It comes with an older litellm of its own,
    # which knows only OpenAI's words.
    for stream in (True, False):
        error = refusal(
            lambda: litellm.completion(
                model="openai/base", api_base=URL, api_key=KEY, messages=[{"role": "user", "content": TOO_LONG}],
                stream=stream, num_retries=0,
            ),
            litellm.ContextWindowExceededError,
        )
        assert type(error) is litellm.ContextWindowExceededError and error.status_code == 400, error
        assert "exceeds the available context size" in str(error), error
        assert "this model's maximum context length is" in str(error), error


class CallsAreRequired(BaseHTTPRequestHandler):
    """Forwards to the server, and adds what llm has no option for: that a user's question is answered by a call."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("tools") and body["messages"][-1]["role"] == "user":
            body["tool_choice"] = "required"
        headers = {name: self.headers[name] for name in ("Content-Type", "Authorization")}
        try:
            answer = urllib.request.urlopen(urllib.request.Request(URL + self.path, json.dumps(body).encode(), headers))
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def llm_calls_its_own_tool_and_a_given_function():
    forwarder = ThreadingHTTPServer(("127.0.0.1", 0), CallsAreRequired)
    threading.Thread(target=forwarder.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        models = [
            {"model_id": name, "model_name": "base", "api_base": base, "api_key_name": "genarm", "supports_tools": True}
            for name, base in (("forwarded", f"http://127.0.0.1:{forwarder.server_port}"), ("direct", URL))
        ]
        # YAML reads JSON.
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps(models))
        Path(folder, "keys.json").write_text(json.dumps({"genarm": KEY}))
        environment = os.environ | {"LLM_USER_PATH": folder, "LLM_LOAD_PLUGINS": ""}

        def llm(*arguments):
            command = [Path(sys.executable).with_name("llm"), *arguments]
            return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

        function = """
from typing import Literal as _Literal
def weather(city: _Literal["Rome"]) -> str:
    "Tells the weather"
    return "31 degrees in " + city
"""
        short = ("-o", "temperature", "0", "-o", "max_tokens")
        own = (["--no-stream", "-T", "llm_version"], "llm_version({})", version("llm"))
        given = (["--functions", function], "weather({'city': 'Rome'})", "31 degrees in Rome")
        for tools, call, result in (own, given):
            done = llm("-m", "forwarded", *tools, "--td", *short, str(CALL), QUESTION)
            assert done.returncode == 0 and done.stdout.strip(), done
            assert call in done.stderr and result in done.stderr, done
        logged = json.loads(llm("logs", "--json", "-n", "1").stdout)
        assert [result["output"] for result in logged[0]["tool_results"]] == ["31 degrees in Rome"], logged

        # Without the forwarder the model may call, and tells a story instead.
        done = llm("-m", "direct", "-T", "llm_version", *short, str(ANSWER), QUESTION)
        assert done.returncode == 0 and done.stdout.strip(), done
        done = llm("-m", "direct", "-T", "llm_version", *short, str(ANSWER), TOO_LONG)
        assert done.returncode == 1 and "exceeds the available context size" in done.stderr, done
    forwarder.shutdown()


langchain_calls_a_tool_and_goes_on_with_its_result()
langchain_calls_a_tool_through_responses()
llamaindex_and_its_agent_call_a_tool_and_go_on_with_its_result()
litellm_calls_a_tool_and_goes_on_with_its_result()
litellm_knows_a_conversation_that_does_not_fit_and_so_does_aider()
llm_calls_its_own_tool_and_a_given_function()
assert not strangers, strangers
print("all is well")
