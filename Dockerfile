# Two images: `docker build --target train .` to teach, distil, compile and prove; `--target runtime .` for a device that
# only opens finished bundles, without torch.
FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/edgepress
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY multilabel multilabel
COPY compress compress
COPY calibration calibration
COPY deploy deploy
COPY edgepress edgepress

FROM base AS runtime
RUN pip install --constraint constraints.txt '.[onnxruntime,openvino,litert,ncnn]' && useradd --create-home edgepress
USER edgepress
WORKDIR /home/edgepress
ENTRYPOINT ["edgepress"]
CMD ["doctor"]

FROM base AS train
RUN pip install --constraint constraints.txt '.[train,weights,quantize,openvino,litert-build,ncnn-build,tensorrt-rtx,s3]' \
    && pip install --no-deps --ignore-requires-python onnx2tf==2.6.9 \
    && useradd --create-home edgepress
USER edgepress
WORKDIR /home/edgepress
ENTRYPOINT ["edgepress"]
CMD ["doctor"]
