# A formula for Homebrew, from the archives of release @VERSION@.
class Genarm < Formula
  desc "Steer GGUF language models token by token with autoregressive reward models"
  homepage "@HOME@"
  version "@VERSION@"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    depends_on arch: :arm64
    url "@URL@/genarm-@VERSION@-macos-arm64.tar.xz"
    sha256 "@SHA256_MACOS_ARM64@"
  end

  on_linux do
    on_intel do
      url "@URL@/genarm-@VERSION@-linux-x86_64.tar.xz"
      sha256 "@SHA256_LINUX_X86_64@"
    end
    on_arm do
      url "@URL@/genarm-@VERSION@-linux-aarch64.tar.xz"
      sha256 "@SHA256_LINUX_AARCH64@"
    end
  end

  def install
    # The command finds its libraries beside itself, so the archive stays together.
    libexec.install Dir["*"]
    bin.install_symlink libexec/"bin/genarm"
    include.install_symlink libexec/"include/genarm.h"
    man1.install_symlink Dir[libexec/"share/man/man1/*"]
    bash_completion.install_symlink libexec/"share/bash-completion/completions/genarm"
    zsh_completion.install_symlink libexec/"share/zsh/site-functions/_genarm"
    fish_completion.install_symlink libexec/"share/fish/vendor_completions.d/genarm.fish"
  end

  test do
    demo = libexec/"share/genarm/models/demo.yaml"
    assert_match(/\S/, shell_output("#{bin}/genarm generate -f #{demo} -n 8 --temp 0 'Once upon a time'"))
  end
end
