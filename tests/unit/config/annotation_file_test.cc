// The kubelet's file of annotations: escapes, limits, and what is not such a file.
#include "config/annotation_file.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace remora::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(AnnotationFileTest, ReadsOneAnnotationALine) {
  const auto parsed = parse_annotation_file(
      "kubernetes.io/config.seen=\"2026-01-01T00:00:00Z\"\nremora.dev/hang-window=\"2m\"\n");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_THAT(*parsed, ElementsAre(Pair("kubernetes.io/config.seen", "2026-01-01T00:00:00Z"),
                                   Pair("remora.dev/hang-window", "2m")));
}

TEST(AnnotationFileTest, AnEmptyFileHasNone) {
  EXPECT_TRUE(parse_annotation_file("").value().empty());
  EXPECT_TRUE(parse_annotation_file("\n\n").value().empty());
}

TEST(AnnotationFileTest, UndoesEachEscapeOfGo) {
  const auto parsed = parse_annotation_file(R"(a="\a\b\f\n\r\t\v\\\"'")"
                                            "\n"
                                            R"(b="\x00\xff")"
                                            "\n"
                                            R"(c="\u00e9\u20ac\U0001f41f")"
                                            "\n"
                                            "d=\"é€🐟 = \"");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(parsed->at("a"), "\a\b\f\n\r\t\v\\\"'");
  EXPECT_EQ(parsed->at("b"), std::string("\0\xff", 2));
  EXPECT_EQ(parsed->at("c"), "é€🐟");
  EXPECT_EQ(parsed->at("d"), "é€🐟 = ");
}

TEST(AnnotationFileTest, AnEqualsSignAndAQuoteInAValueStay) {
  const auto parsed = parse_annotation_file("k=\"a=\\\"b\\\"\"\n");
  EXPECT_EQ(parsed.value().at("k"), "a=\"b\"");
}

TEST(AnnotationFileTest, NamesTheLineThatIsNoAnnotation) {
  for (const std::string line :
       {"no value", "=\"x\"", "k=x", "k=\"x", "k=\"x\"y", "k=\"\\q\"", "k=\"\\x1\"", "k=\"\\u12\"",
        "k=\"\\ud800\"", "k=\"\\U00110000\"", "k=\"\\", "k=\"\\xg0\""}) {
    const auto parsed = parse_annotation_file("a=\"1\"\n" + line + "\n");
    ASSERT_FALSE(parsed.has_value()) << line;
    EXPECT_EQ(parsed.error().code, ErrorCode::kCorrupt) << line;
    EXPECT_THAT(parsed.error().message, HasSubstr("line 2")) << line;
  }
}

TEST(AnnotationFileTest, RefusesMoreThanTheKubeletWrites) {
  const std::string large = "k=\"" + std::string(annotation_file_bytes_max, 'x') + "\"\n";
  const auto parsed = parse_annotation_file(large);
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().code, ErrorCode::kLimitExceeded);
}

TEST(AnnotationFileTest, LoadsAFileAndNamesItInErrors) {
  const std::string path = testing::TempDir() + "annotations_" + std::to_string(::getpid());
  EXPECT_EQ(load_annotation_file(path).error().code, ErrorCode::kNotFound);
  std::ofstream(path) << "a=\"b\"\n";
  EXPECT_THAT(load_annotation_file(path).value(), ElementsAre(Pair("a", "b")));
  std::ofstream(path) << "broken\n";
  const auto broken = load_annotation_file(path);
  std::filesystem::remove(path);
  ASSERT_FALSE(broken.has_value());
  EXPECT_THAT(broken.error().message, HasSubstr(path));
}

}  // namespace
}  // namespace remora::config
