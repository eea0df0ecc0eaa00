#!/usr/bin/env python3
"""Inference of mlp and cnn in ONNX Runtime, with its input and output bound to memory that is there."""
import peer

args = peer.options(__doc__, ["all"], ("mlp", "cnn"))
args.infer = True

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)
nodes, weights = [], []


def weight(name, *shape):
    bound = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.1
    weights.append(numpy_helper.from_array(random.uniform(-bound, bound, shape).astype(np.float32), name))
    return name


def ones(name, n):
    weights.append(numpy_helper.from_array(np.ones(n, np.float32), name))
    return name


def node(kind, inputs, **attributes):
    name = f"t{len(nodes)}"
    nodes.append(helper.make_node(kind, inputs, [name], **attributes))
    return name


def linear(x, name, n_in, n_out):
    return node("Gemm", [x, weight(name + ".w", n_out, n_in), weight(name + ".b", n_out)], transB=1)


def conv_block(x, name, n_in, n_out):
    x = node("Conv", [x, weight(name + ".w", n_out, n_in, 3, 3), weight(name + ".b", n_out)], pads=[1, 1, 1, 1])
    x = node("BatchNormalization", [x, ones(name + ".s", n_out), weight(name + ".t", n_out), weight(name + ".m", n_out), ones(name + ".v", n_out)])
    return node("MaxPool", [node("Relu", [x])], kernel_shape=[2, 2], strides=[2, 2])


def model():
    x = "x"
    if args.workload == "mlp":
        x = node("Relu", [linear(x, "1", 784, 256)])
        x = linear(node("Relu", [linear(x, "2", 256, 128)]), "3", 128, 10)
    else:
        x = node("Flatten", [conv_block(conv_block(x, "1", 1, 32), "2", 32, 64)])
        x = linear(node("Relu", [linear(x, "3", 3136, 128)]), "4", 128, 10)
    shape = [args.batch, *peer.IMAGES[args.workload]]
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, [args.batch, 10])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString(), shape, x


bytes_, shape, output = model()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnxruntime.InferenceSession(bytes_, options, ["CPUExecutionProvider"])
binding = session.io_binding()
binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(random.standard_normal(shape, np.float32)))
binding.bind_ortvalue_output(output, onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((args.batch, 10), np.float32)))

peer.run(args, "onnxruntime " + onnxruntime.__version__, lambda: session.run_with_iobinding(binding))
