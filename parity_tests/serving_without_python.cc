// Loads a SavedModel as TensorFlow Serving does, and answers requests by one of its signatures. No Python anywhere.
//
//   serving_without_python MODEL SIGNATURE REQUEST [OP_LIBRARY]
//
// REQUEST is a serialized tensorflow.NamedTensorProto for each input, one after another, each behind its length (uint32,
// little-endian). Printed is one line a row: the ids, with a tab between.

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/protobuf/named_tensor.pb.h"

namespace tf = tensorflow;

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status.ToString() << std::endl;
  std::exit(1);
}

std::vector<tf::NamedTensorProto> ReadRequest(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<tf::NamedTensorProto> request;
  std::uint32_t length = 0;
  while (file.read(reinterpret_cast<char*>(&length), sizeof(length))) {
    std::string bytes(length, '\0');
    file.read(bytes.data(), length);
    if (!file || !request.emplace_back().ParseFromString(bytes)) {
      std::cerr << "bad request in " << path << std::endl;
      std::exit(1);
    }
  }
  return request;
}

int main(int argc, char** argv) {
  if (argc > 4) {
    TF_Status* status = TF_NewStatus();
    TF_LoadLibrary(argv[4], status);
    std::cerr << TF_Message(status);
    if (TF_GetCode(status) != TF_OK) return 1;
  }
  tf::SavedModelBundle bundle;
  Check(tf::LoadSavedModel(tf::SessionOptions(), tf::RunOptions(), argv[1], {"serve"}, &bundle));
  const tf::SignatureDef& signature = bundle.GetSignatures().at(argv[2]);
  std::vector<std::pair<std::string, tf::Tensor>> inputs;
  for (const tf::NamedTensorProto& named : ReadRequest(argv[3])) {
    tf::Tensor tensor;
    if (!tensor.FromProto(named.tensor())) return 1;
    // Names of ops differ between exports: the signature knows them.
    inputs.emplace_back(signature.inputs().at(named.name()).name(), tensor);
  }
  std::vector<tf::Tensor> outputs;
  Check(bundle.GetSession()->Run(inputs, {signature.outputs().at("ids").name()}, {}, &outputs));
  const auto ids = outputs[0].matrix<tf::tstring>();
  for (int row = 0; row < ids.dimension(0); ++row) {
    for (int place = 0; place < ids.dimension(1); ++place) std::cout << (place ? "\t" : "") << ids(row, place);
    std::cout << "\n";
  }
}
