"""The method on arrays and tensors: features, graphs, network, training, clustering. It never imports anndata."""
