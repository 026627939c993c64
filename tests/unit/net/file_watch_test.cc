// A change is told however it was made, and told once.
#include "sidecar/net/file_watch.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "sidecar/net/event_loop.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/temp_directory.h"

namespace remora {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// Far longer than a change takes to be told.
constexpr auto kHungAfter = 20s;
// Long enough for a second telling that should not come.
constexpr auto kQuiet = std::chrono::milliseconds(3 * file_watch_settle_ms);

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

// A volume as the kubelet writes it: the name is a link through ..data, which is swapped.
class Volume {
 public:
  explicit Volume(std::string path) : path_(std::move(path)) {}
  void publish(const std::string& name, const std::string& text) {
    const std::string version = "..v" + std::to_string(++version_);
    fs::create_directory(path_ + "/" + version);
    write(path_ + "/" + version + "/" + name, text);
    fs::create_symlink(version, path_ + "/..data_tmp");
    fs::rename(path_ + "/..data_tmp", path_ + "/..data");
    if (!fs::exists(path_ + "/" + name)) fs::create_symlink("..data/" + name, path_ + "/" + name);
    if (version_ > 1) fs::remove_all(path_ + "/..v" + std::to_string(version_ - 1));
  }

 private:
  std::string path_;
  int version_ = 0;
};

class FileWatchTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  void watch(std::vector<std::string> files) {
    watch_ = std::make_unique<FileWatch>(loop_, std::move(files), [this] {
      ++told_;
      loop_.stop();
    });
    ASSERT_TRUE(watch_->has_signs());
  }
  void run_until_told() {
    const Subscription watchdog = loop_.add_timer(kHungAfter, [this] {
      ADD_FAILURE() << "nothing was told";
      loop_.stop();
    });
    loop_.run();
  }
  void run_for(Duration time) {
    const Subscription over = loop_.add_timer(time, [this] { loop_.stop(); });
    loop_.run();
  }

  TempDirectory directory_;
  EventLoop loop_;
  std::unique_ptr<FileWatch> watch_;
  int told_ = 0;
};

TEST_F(FileWatchTest, SwappedLinkIsToldEachTime) {
  Volume volume(directory_.path());
  volume.publish("annotations", "a=\"1\"\n");
  watch({path("annotations")});
  for (int round = 1; round <= 3; ++round) {
    volume.publish("annotations", "a=\"2\"\n");
    run_until_told();
    EXPECT_EQ(told_, round);
  }
}

TEST_F(FileWatchTest, WritingInPlaceAndRenamingOverAreTold) {
  write(path("remora.yaml"), "a");
  watch({path("remora.yaml")});
  write(path("remora.yaml"), "ab");
  run_until_told();
  write(path("new"), "abc");
  fs::rename(path("new"), path("remora.yaml"));
  run_until_told();
  write(path("remora.yaml"), "abcd");  // the file that came by renaming is watched, too
  run_until_told();
  EXPECT_EQ(told_, 3);
}

TEST_F(FileWatchTest, ComingAndGoingAreTold) {
  watch({path("remora.yaml")});
  write(path("remora.yaml"), "a");
  run_until_told();
  fs::remove(path("remora.yaml"));
  run_until_told();
  EXPECT_EQ(told_, 2);
}

TEST_F(FileWatchTest, SeveralChangesTogetherAreToldOnceAndOthersNotAtAll) {
  write(path("one"), "a");
  write(path("two"), "a");
  watch({path("one"), path("two")});
  write(path("three"), "a");
  run_for(kQuiet);
  EXPECT_EQ(told_, 0);
  write(path("one"), "ab");
  write(path("two"), "ab");
  run_until_told();
  run_for(kQuiet);
  EXPECT_EQ(told_, 1);
}

TEST(FileWatchPollTest, ChangeWithoutASignIsFoundByLooking) {
  const TempDirectory directory;
  const std::string file = directory.path() + "/remora.yaml";
  write(file, "a");
  FakeLoop loop;  // its descriptors are silent
  int told = 0;
  const FileWatch watch(loop, {file}, [&told] { ++told; });
  write(file, "ab");
  loop.run_for(std::chrono::seconds(file_watch_poll_s - 1));
  EXPECT_EQ(told, 0);
  loop.run_for(2s);
  EXPECT_EQ(told, 1);
  loop.run_for(std::chrono::seconds(3 * file_watch_poll_s));
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace remora
