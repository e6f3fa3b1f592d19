# Image for a JupyterHub with GPUs. Build it with: docker build -t seaice_lab .
FROM condaforge/miniforge3:25.3.0-1
ENV CONDA_OVERRIDE_CUDA=12.9 SEAICE_LAB_RUNS=/home/jovyan/runs
COPY . /opt/seaice_lab
WORKDIR /opt/seaice_lab
RUN conda env create --file environment.yml \
    && conda install --name seaice_lab --yes jupyterhub-singleuser \
    && conda clean --all --yes \
    && (userdel --remove ubuntu || true) \
    && useradd --create-home --uid 1000 jovyan
ENV PATH=/opt/conda/envs/seaice_lab/bin:$PATH
USER 1000
WORKDIR /home/jovyan
CMD ["jupyterhub-singleuser", "--ip=0.0.0.0"]
