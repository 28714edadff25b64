"""A client program that has nothing but grpcio, protobuf and stubs generated from `proto/`.

`test_stubs_without_tensorflow.py` runs it in a process of its own:
`stub_client.py <folder with the stubs> <host:port>`. It prints what it got as JSON. Any attempt to
import TensorFlow, or one of the packages it would bring along, ends it.
"""

import importlib.machinery
import json
import sys

# In the stubs' folder these are generated code, elsewhere they are TensorFlow.
GENERATED = ("tensorflow", "tensorflow_serving", "xla")
REFUSED = ("keras", "numpy", "tensorboard")


class NoTensorFlow:
    """Finds the generated packages in the stubs' folder only, and refuses TensorFlow's own."""

    def __init__(self, stubs):
        self.stubs = stubs

    def find_spec(self, name, path=None, target=None):
        if name in REFUSED:
            raise ModuleNotFoundError(f"{name} must not be needed")
        if name not in GENERATED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, [self.stubs])
        if spec is None:
            raise ModuleNotFoundError(f"{name} was not generated")
        return spec


def main(stubs, address):
    sys.meta_path.insert(0, NoTensorFlow(stubs))
    sys.path.insert(0, stubs)

    import grpc
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    with grpc.insecure_channel(address) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        x = request.inputs["x"]
        x.dtype = types_pb2.DT_FLOAT
        x.tensor_shape.dim.add(size=3)
        x.float_val.extend([1.0, 2.0, 5.0])
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=30)

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "half_plus_two"
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        status = stub.GetModelStatus(request, timeout=30)

    print(
        json.dumps(
            {
                "version": response.model_spec.version.value,
                "dtype": types_pb2.DataType.Name(response.outputs["y"].dtype),
                "shape": [dim.size for dim in response.outputs["y"].tensor_shape.dim],
                "y": list(response.outputs["y"].float_val),
                "status": [
                    [each.version, each.State.Name(each.state)]
                    for each in status.model_version_status
                ],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
