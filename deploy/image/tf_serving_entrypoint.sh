#!/bin/sh
# Serves the model ${MODEL_NAME} in ${MODEL_BASE_PATH}. Arguments of the container follow the flags
# given here, and the last of a kind wins. `exec`: the server itself gets the container's signals.
exec tensorflow_model_server --port=8500 --rest_api_port=8501 \
    "--model_name=${MODEL_NAME}" "--model_base_path=${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
